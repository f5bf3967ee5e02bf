"""Ranks sketches of one bit a number against a question in floats, straight from the mapped bytes: no index, no copy.

A byte of a sketch is one of 256 corners of a cube, so the products of a question with all corners are summed by look-up
(the product quantisation of FAISS with corners for a codebook). What sketches are is in `lifecycle/quantization.py`.
"""

from functools import lru_cache

import faiss
import numpy as np

from akosha_assets.lake.lifecycle.quantization import rotation


def best(query: np.ndarray, sketches: np.ndarray, scale: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the `wanted` sketches nearest to the unit vector `query`, and their estimated cosines."""
    dimensions = sketches.shape[1] * 8
    wanted = min(wanted, len(sketches))
    if not wanted:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    rotated = np.ascontiguousarray(rotation(dimensions) @ query, np.float32)
    codes = np.ascontiguousarray(sketches)
    sums, positions = np.empty(wanted, np.float32), np.empty(wanted, np.int64)
    found = faiss.float_minheap_array_t()
    found.nh, found.k = 1, wanted
    found.val, found.ids = faiss.swig_ptr(sums), faiss.swig_ptr(positions)
    _corners(dimensions).search_ip(faiss.swig_ptr(rotated), 1, faiss.swig_ptr(codes), len(codes), found)
    divisor = scale[positions].astype(np.float32)
    return positions, sums / (np.sqrt(np.float32(dimensions)) * np.where(divisor > 0, divisor, np.float32(1)))


@lru_cache(maxsize=4)
def _corners(dimensions: int) -> faiss.ProductQuantizer:
    """A codebook whose entry `b` is +1 for each bit of the byte `b` that is set, else -1, the highest bit first."""
    quantizer = faiss.ProductQuantizer(dimensions, dimensions // 8, 8)
    signs = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32) * 2 - 1
    faiss.copy_array_to_vector(np.tile(signs.ravel(), dimensions // 8), quantizer.centroids)
    return quantizer
