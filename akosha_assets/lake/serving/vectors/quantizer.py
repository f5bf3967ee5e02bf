"""What the indexes of many sets of vectors have in common: the lists that vectors are told into, and the levels of a
number.

Sets of one layout, such as the days of a tier, are asked with one choice of lists. Only the means of the lists and the
levels are kept with an index; everything else follows from them, so a layout survives in any index made under it.
"""

import hashlib
import os
import threading
from collections.abc import Callable
from functools import cached_property
from typing import ClassVar
from weakref import WeakSet, WeakValueDictionary

import faiss
import numpy as np

# Lists for so many rows: these many per square root of them, and no more than so many.
LISTS_PER_ROOT = 1.4
LISTS_MIN, LISTS_MAX = 16, 2048
# A set of fewer rows a list fills its blocks badly.
ROWS_PER_LIST = 24
TRAINING_ROWS_PER_LIST = 32
TRAINING_ROUNDS = 5
# Directions in which vectors are told apart for their list.
DIRECTIONS = 64
FEW_ROWS = 4096
# Of four levels for a number of a normal distribution, the outer two begin this many deviations from the middle.
OUTER_LEVEL = 0.9816

Floats = Callable[[np.ndarray | slice], np.ndarray]


class CoarseQuantizer:
    """`centroids` of the vectors told into each list, float32, a row a list; `codebook` of each number, float32, four
    rows.
    """

    _known: ClassVar[WeakValueDictionary[bytes, "CoarseQuantizer"]] = WeakValueDictionary()
    _looking: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, centroids: np.ndarray, codebook: np.ndarray):
        self.centroids, self.codebook = centroids, codebook

    @classmethod
    def of(cls, centroids: np.ndarray, codebook: np.ndarray) -> "CoarseQuantizer":
        """The layout with these centroids and codebook, one object for all who ask."""
        # Numbers that were learnt agree to the last bit only where all of them do.
        key = hashlib.blake2b(
            codebook.tobytes() + centroids[:LISTS_MIN].tobytes() + centroids.shape[0].to_bytes(8), digest_size=16
        ).digest()
        with cls._looking:
            if (known := cls._known.get(key)) is None:
                known = cls._known[key] = cls(centroids.copy(), codebook.copy())
            return known

    @classmethod
    def train(cls, count: int, floats: Floats, lists: int) -> "CoarseQuantizer":
        """A layout of so many lists, learnt from `count` vectors, of which `floats` gives those at some positions."""
        sample = floats(np.linspace(0, count - 1, min(count, lists * TRAINING_ROWS_PER_LIST)).astype(np.int64))
        few = sample[:: max(1, len(sample) // FEW_ROWS)]
        turned = _pca_transform(few).apply(sample)
        clustering = faiss.Clustering(turned.shape[1], lists)
        clustering.niter, clustering.min_points_per_centroid = TRAINING_ROUNDS, 1
        clustering.max_points_per_centroid = TRAINING_ROWS_PER_LIST
        middles = faiss.IndexFlatL2(turned.shape[1])
        # Others wait for a layout before they can do anything, so all cores learn.
        faiss.omp_set_num_threads(os.cpu_count() or 1)
        clustering.train(turned, middles)
        assigned = middles.search(turned, 1)[1][:, 0]
        faiss.omp_set_num_threads(1)
        order = np.argsort(assigned, kind="stable")
        first = np.flatnonzero(np.diff(assigned[order], prepend=-1))
        means = np.zeros((lists, sample.shape[1]), np.float32)
        held = np.diff(np.append(first, len(order)))
        means[assigned[order][first]] = np.add.reduceat(sample[order], first) / held[:, None]
        return cls.of(means, _train_codebook(few))

    def __len__(self) -> int:
        return len(self.centroids)

    @property
    def dimensions(self) -> int:
        """Numbers in one vector."""
        return int(self.centroids.shape[1])

    @cached_property
    def thresholds(self) -> np.ndarray:
        """Between the levels of each number: a number has the level that is nearest."""
        return (self.codebook[1:] + self.codebook[:-1]) / 2

    @cached_property
    def quantizer(self) -> faiss.IndexFlatIP:
        """The means as FAISS keeps them with an index."""
        flat = faiss.IndexFlatIP(self.dimensions)
        flat.add(self.centroids)
        return flat

    @cached_property
    def pca(self) -> faiss.LinearTransform:
        """Onto the directions in which the lists differ most."""
        return _pca_transform(self.centroids)

    @cached_property
    def pca_centroids(self) -> faiss.IndexFlatL2:
        """The means in those directions: a vector belongs to the list of the nearest."""
        flat = faiss.IndexFlatL2(self.pca.d_out)
        flat.add(self.pca.apply(self.centroids))
        return flat

    @cached_property
    def unit_centroids(self) -> faiss.IndexFlatIP:
        """Where the means point: a question looks into the lists whose means point most nearly where it does."""
        flat = faiss.IndexFlatIP(self.dimensions)
        flat.add(
            self.centroids
            / np.maximum(np.linalg.norm(self.centroids, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        )
        return flat

    def probe(self, query: np.ndarray, count: int) -> np.ndarray:
        """The numbers of the `count` lists that a question looks into, in ascending order."""
        if count >= len(self):
            return np.arange(len(self))
        return np.sort(self.unit_centroids.search(np.ascontiguousarray(query[None], np.float32), count)[1][0])


class CoarseQuantizers:
    """The layouts under which the sets of one tier are indexed, by space."""

    def __init__(self) -> None:
        self.rows = 0
        self._met: dict[str, WeakSet[CoarseQuantizer]] = {}
        self._learning = threading.Lock()

    def expect(self, rows: int) -> None:
        """The tier has, or is about to have, so many rows."""
        self.rows = rows

    def meet(self, space: str, layout: CoarseQuantizer) -> None:
        """Some set of `space` is indexed under `layout`."""
        with self._learning:
            self._met.setdefault(space, WeakSet()).add(layout)

    def of(self, space: str, count: int, floats: Floats) -> CoarseQuantizer:
        """A layout for `count` more vectors of `space`: one that was met, unless it has far too few or too many lists
        for them.
        """
        most = list_count(max(self.rows, count))
        wanted = min(most, max(LISTS_MIN, count // ROWS_PER_LIST))
        with self._learning:
            fitting = [met for met in self._met.get(space, ()) if wanted / 2 <= len(met) <= 2 * most]
            found = min(fitting, key=lambda met: abs(np.log(len(met) / wanted)), default=None)
            if found is None:
                found = CoarseQuantizer.train(count, floats, wanted)
                self._met.setdefault(space, WeakSet()).add(found)
            return found


def list_count(rows: int) -> int:
    """The lists that serve so many rows best."""
    return min(LISTS_MAX, max(LISTS_MIN, round(LISTS_PER_ROOT * rows**0.5)))


def inner_products(query: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Inner product of `query` with each row, by this thread alone: the threads of a BLAS wait for each other as
    FAISS's do.
    """
    products = np.empty(len(vectors), np.float32)
    wanted, given = np.ascontiguousarray(query, np.float32), np.ascontiguousarray(vectors)
    pointers = (faiss.swig_ptr(products), faiss.swig_ptr(wanted), faiss.swig_ptr(given))
    faiss.fvec_inner_products_ny(*pointers, given.shape[1], len(given))  # type: ignore[attr-defined]
    return products


def _pca_transform(vectors: np.ndarray) -> faiss.LinearTransform:
    """Onto the directions in which `vectors` differ most."""
    count, dimensions = vectors.shape
    directions = min(DIRECTIONS, dimensions, count)
    principal = faiss.PCAMatrix(dimensions, directions)
    principal.train(vectors)
    turn = faiss.LinearTransform(dimensions, directions, False)
    faiss.copy_array_to_vector(faiss.vector_to_array(principal.A)[: directions * dimensions], turn.A)
    turn.is_trained = True
    return turn


def _train_codebook(vectors: np.ndarray) -> np.ndarray:
    """Four levels for each number of a vector: the means of what lies between three thresholds."""
    middle, spread = vectors.mean(axis=0), vectors.std(axis=0) * np.float32(OUTER_LEVEL)
    level = (vectors > np.stack([middle - spread, middle, middle + spread])[:, None]).sum(axis=0)
    levels = [
        np.where(level == each, vectors, 0).sum(axis=0) / np.maximum(1, (level == each).sum(axis=0))
        for each in range(4)
    ]
    return np.stack(levels).astype(np.float32)
