"""Ranks sketches of one bit a number against a float query, directly on mapped bytes: no index, no copy.

A byte of a sketch is one of the 256 corners of a cube. The products of the query with all corners are computed once and
summed by look-up: product quantization of FAISS with the corners as codebook. `lifecycle/quantization.py` defines
sketches.
"""

from functools import lru_cache

import faiss
import numpy as np

from akosha_assets.lake.lifecycle.quantization import rotation


def scan(query: np.ndarray, sketches: np.ndarray, scale: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions, (k,) int64, and estimated cosines, (k,) float32, of the `k` sketches nearest to `query`.

    `query`: (dimensions,) float32 of unit length; `sketches`: (rows, dimensions / 8) uint8; `scale`: (rows,) float32.
    """
    dimensions = sketches.shape[1] * 8
    k = min(k, len(sketches))
    if not k:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    rotated = np.ascontiguousarray(rotation(dimensions) @ query, np.float32)
    codes = np.ascontiguousarray(sketches)
    sums, positions = np.empty(k, np.float32), np.empty(k, np.int64)
    heap = faiss.float_minheap_array_t()
    heap.nh, heap.k = 1, k
    heap.val, heap.ids = faiss.swig_ptr(sums), faiss.swig_ptr(positions)
    _corners(dimensions).search_ip(faiss.swig_ptr(rotated), 1, faiss.swig_ptr(codes), len(codes), heap)
    divisor = scale[positions].astype(np.float32)
    return positions, sums / (np.sqrt(np.float32(dimensions)) * np.where(divisor > 0, divisor, np.float32(1)))


@lru_cache(maxsize=4)
def _corners(dimensions: int) -> faiss.ProductQuantizer:
    """A codebook whose entry `b` has +1 for each bit set in the byte `b` and -1 for the others, highest bit first."""
    quantizer = faiss.ProductQuantizer(dimensions, dimensions // 8, 8)
    signs = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32) * 2 - 1
    faiss.copy_array_to_vector(np.tile(signs.ravel(), dimensions // 8), quantizer.centroids)
    return quantizer
