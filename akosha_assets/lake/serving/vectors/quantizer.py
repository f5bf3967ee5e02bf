"""The coarse quantizer that the indexes of many sets of vectors share: centroids of the lists, and a codebook.

Sets of one quantizer, such as the days of a tier, are searched with one choice of lists. An index stores only the
centroids and the codebook; everything else follows from them, so a quantizer survives in any index built with it.
"""

import hashlib
import math
import os
import threading
from collections.abc import Callable
from functools import cached_property
from typing import ClassVar
from weakref import WeakSet, WeakValueDictionary

import faiss
import numpy as np

# Number of lists: this factor times the square root of the rows, within these bounds.
LISTS_PER_ROOT = 1.4
LISTS_MIN, LISTS_MAX = 16, 2048
# With fewer rows a list, blocks are mostly padding.
ROWS_PER_LIST = 24
TRAINING_ROWS_PER_LIST = 32
TRAINING_ROUNDS = 5
# Principal components that choose the list of a vector.
PCA_DIMENSIONS = 64
PCA_ROWS = 4096
# Optimal threshold of the outer two of four levels of a normal distribution, in standard deviations from the mean.
OUTER_LEVEL = 0.9816

Floats = Callable[[np.ndarray | slice], np.ndarray]


class CoarseQuantizer:
    """The centroid of each list, and four levels for each number of a vector."""

    _instances: ClassVar[WeakValueDictionary[bytes, "CoarseQuantizer"]] = WeakValueDictionary()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, centroids: np.ndarray, codebook: np.ndarray):
        # (lists, dimensions) float32
        self.centroids = centroids
        # (4, dimensions) float32, ascending levels
        self.codebook = codebook

    @classmethod
    def of(cls, centroids: np.ndarray, codebook: np.ndarray) -> "CoarseQuantizer":
        """The quantizer with these centroids and codebook; the same object for the same numbers."""
        # Trained numbers that agree to the last bit in these samples agree in all.
        key = hashlib.blake2b(
            codebook.tobytes() + centroids[:LISTS_MIN].tobytes() + centroids.shape[0].to_bytes(8), digest_size=16
        ).digest()
        with cls._lock:
            if (instance := cls._instances.get(key)) is None:
                instance = cls._instances[key] = cls(centroids.copy(), codebook.copy())
            return instance

    @classmethod
    def train(cls, count: int, floats: Floats, lists: int) -> "CoarseQuantizer":
        """A quantizer with `lists` lists, trained on `count` vectors; `floats` returns the vectors at given positions.

        k-means on the top principal components; the centroids are the means of the original vectors.
        """
        sample = floats(np.linspace(0, count - 1, min(count, lists * TRAINING_ROWS_PER_LIST)).astype(np.int64))
        small_sample = sample[:: max(1, len(sample) // PCA_ROWS)]
        projected = _train_pca(small_sample).apply(sample)
        clustering = faiss.Clustering(projected.shape[1], lists)
        clustering.niter, clustering.min_points_per_centroid = TRAINING_ROUNDS, 1
        clustering.max_points_per_centroid = TRAINING_ROWS_PER_LIST
        pca_centroids = faiss.IndexFlatL2(projected.shape[1])
        # Everything else waits for the first quantizer, so training uses all cores.
        faiss.omp_set_num_threads(os.cpu_count() or 1)
        clustering.train(projected, pca_centroids)
        list_of = pca_centroids.search(projected, 1)[1][:, 0]
        faiss.omp_set_num_threads(1)
        order = np.argsort(list_of, kind="stable")
        first = np.flatnonzero(np.diff(list_of[order], prepend=-1))
        centroids = np.zeros((lists, sample.shape[1]), np.float32)
        sizes = np.diff(np.append(first, len(order)))
        centroids[list_of[order][first]] = np.add.reduceat(sample[order], first) / sizes[:, None]
        return cls.of(centroids, _train_codebook(small_sample))

    def __len__(self) -> int:
        return len(self.centroids)

    @property
    def dimensions(self) -> int:
        """Numbers in one vector."""
        return int(self.centroids.shape[1])

    @cached_property
    def thresholds(self) -> np.ndarray:
        """The bounds between the levels of each number: (3, dimensions) float32."""
        bounds: np.ndarray = (self.codebook[1:] + self.codebook[:-1]) / 2
        return bounds

    @cached_property
    def centroid_index(self) -> faiss.IndexFlatIP:
        """The centroids as FAISS stores them with an index."""
        flat = faiss.IndexFlatIP(self.dimensions)
        flat.add(self.centroids)
        return flat

    @cached_property
    def pca(self) -> faiss.LinearTransform:
        """The projection onto the principal components of the centroids."""
        return _train_pca(self.centroids)

    @cached_property
    def pca_centroids(self) -> faiss.IndexFlatL2:
        """The projected centroids; a vector belongs to the list of the nearest."""
        flat = faiss.IndexFlatL2(self.pca.d_out)
        flat.add(self.pca.apply(self.centroids))
        return flat

    @cached_property
    def unit_centroids(self) -> faiss.IndexFlatIP:
        """The centroids at unit length; a query probes the lists with the largest products."""
        flat = faiss.IndexFlatIP(self.dimensions)
        norms = np.linalg.norm(self.centroids, axis=1, keepdims=True)
        flat.add(self.centroids / np.maximum(norms, np.finfo(np.float32).tiny))
        return flat

    def probe(self, query: np.ndarray, count: int) -> np.ndarray:
        """The `count` lists that a query probes: (count,) int64, sorted."""
        if count >= len(self):
            return np.arange(len(self))
        return np.sort(self.unit_centroids.search(np.ascontiguousarray(query[None], np.float32), count)[1][0])


class CoarseQuantizers:
    """The quantizers that index the sets of one tier, by space."""

    def __init__(self) -> None:
        self.rows = 0
        self._by_space: dict[str, WeakSet[CoarseQuantizer]] = {}
        self._lock = threading.Lock()

    def expect(self, rows: int) -> None:
        """Sets the number of rows that the tier has or is about to have."""
        self.rows = rows

    def register(self, space: str, quantizer: CoarseQuantizer) -> None:
        """Adds the quantizer of an index of `space`."""
        with self._lock:
            self._by_space.setdefault(space, WeakSet()).add(quantizer)

    def of(self, space: str, count: int, floats: Floats) -> CoarseQuantizer:
        """A quantizer for `count` more vectors of `space`: a registered one if its list count fits, else a new one."""
        most = list_count(max(self.rows, count))
        best = min(most, max(LISTS_MIN, count // ROWS_PER_LIST))
        with self._lock:
            fitting = [each for each in self._by_space.get(space, ()) if best / 2 <= len(each) <= 2 * most]
            quantizer = min(fitting, key=lambda each: abs(np.log(len(each) / best)), default=None)
            if quantizer is None:
                quantizer = CoarseQuantizer.train(count, floats, best)
                self._by_space.setdefault(space, WeakSet()).add(quantizer)
            return quantizer


def list_count(rows: int) -> int:
    """The best number of lists for `rows` rows."""
    lists: int = round(LISTS_PER_ROOT * math.sqrt(rows))
    return min(LISTS_MAX, max(LISTS_MIN, lists))


def inner_products(query: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Inner product of `query` with each row of `vectors`, (rows,) float32, in this thread alone.

    The threads of a BLAS would wait for each other on a busy machine, as FAISS's do.
    """
    products = np.empty(len(vectors), np.float32)
    query, vectors = np.ascontiguousarray(query, np.float32), np.ascontiguousarray(vectors)
    pointers = (faiss.swig_ptr(products), faiss.swig_ptr(query), faiss.swig_ptr(vectors))
    faiss.fvec_inner_products_ny(*pointers, vectors.shape[1], len(vectors))  # type: ignore[attr-defined]
    return products


def _train_pca(vectors: np.ndarray) -> faiss.LinearTransform:
    """The projection onto the top principal components of `vectors`, without centering."""
    count, dimensions = vectors.shape
    components = min(PCA_DIMENSIONS, dimensions, count)
    principal = faiss.PCAMatrix(dimensions, components)
    principal.train(vectors)
    projection = faiss.LinearTransform(dimensions, components, False)
    faiss.copy_array_to_vector(faiss.vector_to_array(principal.A)[: components * dimensions], projection.A)
    projection.is_trained = True
    return projection


def _train_codebook(vectors: np.ndarray) -> np.ndarray:
    """Four levels for each number of a vector, (4, dimensions) float32: the means between three thresholds."""
    middle, spread = vectors.mean(axis=0), vectors.std(axis=0) * np.float32(OUTER_LEVEL)
    level = (vectors > np.stack([middle - spread, middle, middle + spread])[:, None]).sum(axis=0)
    levels = [
        np.where(level == each, vectors, 0).sum(axis=0) / np.maximum(1, (level == each).sum(axis=0))
        for each in range(4)
    ]
    return np.stack(levels).astype(np.float32)
