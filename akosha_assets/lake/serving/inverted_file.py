"""Builds the index of one set of vectors: an inverted file with two bits a number, in the layout that FAISS scans.

Lists are learnt and filled in few directions, in which vectors differ most; a question chooses among them by the mean of
what they hold. How many lists are looked into, and what becomes of the candidates, is `vectors.py`'s to say.
"""

from collections.abc import Callable
from typing import Any

import faiss
import numpy as np

# Lists of an index per square root of its rows, and how they are learnt.
LISTS_PER_ROOT = 1.75
LISTS_MIN = 16
TRAINING_ROWS_PER_LIST = 32
TRAINING_ROUNDS = 5
# Directions in which vectors are told apart for their list.
DIRECTIONS = 64
DIRECTION_ROWS = 4096
# Vectors that become float32 together: as many as stay in a core's cache.
BLOCK_ROWS = 512
# Of four levels for a number of a normal distribution, the outer two begin this many deviations from the middle.
OUTER_LEVEL = 0.9816
# What FAISS scans at once: rows of a block, of which two halves of interleaved eights share their bytes.
SCANNED_ROWS = 32
PACKED_BLOCKS = 64
# FAISS's way of scanning for a single question: without it the tables of products are laid out anew for every list.
SINGLE_QUESTION = 11

# A code has two bits for a number.
NUMBERS_PER_BYTE = 4
# Of a vector's position.
ID_BYTES = 8

Floats = Callable[[np.ndarray | slice], np.ndarray]


def built(count: int, dimensions: int, floats: Floats) -> faiss.Index:
    """An index of `count` vectors under their positions; `floats` gives those at some positions.

    `dimensions` is a multiple of `NUMBERS_PER_BYTE`.
    """
    lists = _lists(count)
    sample = floats(np.linspace(0, count - 1, min(count, lists * TRAINING_ROWS_PER_LIST)).astype(np.int64))
    few = sample[:: max(1, len(sample) // DIRECTION_ROWS)]
    assigned = _assigned(count, lists, sample, _turn(few), floats)
    held = np.bincount(assigned, minlength=lists)
    order = np.argsort(assigned, kind="stable")
    thresholds, levels = _levels(few)
    sums = np.zeros((lists, dimensions), np.float32)
    codes = np.empty((count, dimensions // NUMBERS_PER_BYTE), np.uint8)
    in_order = assigned[order]
    for start in range(0, count, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        vectors = floats(order[block])
        ends = np.flatnonzero(np.diff(in_order[block], prepend=lists))
        sums[in_order[block][ends]] += np.add.reduceat(vectors, ends)
        codes[block] = _codes(vectors, thresholds)
    middles = faiss.IndexFlatIP(dimensions)
    middles.add(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), np.finfo(np.float32).tiny))
    index = faiss.IndexIVFPQFastScan(middles, dimensions, lists, dimensions // 2, 4, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(_points(levels).ravel(), index.pq.centroids)
    index.is_trained, index.ntotal, index.implem = True, count, SINGLE_QUESTION
    _fill(index.invlists, held, order, codes)
    return index


def nbytes(count: int, dimensions: int) -> int:
    """Bytes of the index that `built` makes: of each vector its code and its position, of each list its mean and half a block."""
    code_bytes = dimensions // NUMBERS_PER_BYTE
    return count * (code_bytes + ID_BYTES) + _lists(count) * (dimensions * 4 + code_bytes * SCANNED_ROWS // 2)


def _lists(count: int) -> int:
    return max(LISTS_MIN, round(LISTS_PER_ROOT * count**0.5))


def _turn(vectors: np.ndarray) -> faiss.LinearTransform:
    """Onto the directions in which `vectors` differ most."""
    dimensions = vectors.shape[1]
    directions = min(DIRECTIONS, dimensions)
    principal = faiss.PCAMatrix(dimensions, directions)
    principal.train(vectors)
    turn = faiss.LinearTransform(dimensions, directions, False)
    faiss.copy_array_to_vector(faiss.vector_to_array(principal.A)[: directions * dimensions], turn.A)
    turn.is_trained = True
    return turn


def _assigned(count: int, lists: int, sample: np.ndarray, turn: faiss.LinearTransform, floats: Floats) -> np.ndarray:
    """The list of each vector, the lists learnt from `sample`."""
    clustering = faiss.Clustering(turn.d_out, lists)
    clustering.niter, clustering.min_points_per_centroid = TRAINING_ROUNDS, 1
    clustering.max_points_per_centroid = TRAINING_ROWS_PER_LIST
    middles = faiss.IndexFlatL2(turn.d_out)
    clustering.train(turn.apply(sample), middles)
    turned = np.empty((count, turn.d_out), np.float32)
    for start in range(0, count, BLOCK_ROWS):
        turned[start : start + BLOCK_ROWS] = turn.apply(floats(slice(start, start + BLOCK_ROWS)))
    # A narrow type is sorted in one pass.
    return middles.search(turned, 1)[1][:, 0].astype(np.uint16 if lists <= np.iinfo(np.uint16).max else np.int64)


def _levels(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each number of a vector the three thresholds between its four levels, and the levels: the means of what is between them."""
    middle, spread = vectors.mean(axis=0), vectors.std(axis=0) * np.float32(OUTER_LEVEL)
    thresholds = np.stack([middle - spread, middle, middle + spread])
    level = (vectors > thresholds[:, None]).sum(axis=0)
    levels = np.stack([np.where(level == each, vectors, 0).sum(axis=0) / np.maximum(1, (level == each).sum(axis=0)) for each in range(4)])
    return thresholds, levels.astype(np.float32)


def _codes(vectors: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Two bits for each number, four numbers to a byte, the first in its lowest bits."""
    level = (vectors > thresholds[0]).view(np.uint8)
    level += (vectors > thresholds[1]).view(np.uint8)
    level += (vectors > thresholds[2]).view(np.uint8)
    pairs = level.view("<u4")
    pairs = pairs | pairs >> 6
    return (pairs | pairs >> 12).astype(np.uint8)


def _points(levels: np.ndarray) -> np.ndarray:
    """The codebook: for each pair of numbers the sixteen pairs of their levels, the first number in the lowest bits."""
    code = np.arange(16)
    return np.stack([levels[code & 3, 0::2], levels[code >> 2, 1::2]], axis=-1).transpose(1, 0, 2)


def _fill(lists: Any, held: np.ndarray, order: np.ndarray, codes: np.ndarray) -> None:
    """Each list has its positions of `order` and their `codes`, in blocks: for each pair of numbers 16 bytes of two rows each."""
    blocks = -(-held // SCANNED_ROWS)
    first_row, first_block = np.cumsum(held) - held, np.cumsum(blocks) - blocks
    laid = np.zeros((int(blocks.sum()) * SCANNED_ROWS, codes.shape[1]), np.uint8)
    laid[np.arange(len(codes)) + np.repeat(first_block * SCANNED_ROWS - first_row, held)] = codes
    rows = laid.reshape(-1, 2, 2, 8, codes.shape[1])
    packed = np.empty((len(rows), codes.shape[1], 2, 8, 2), np.uint8)
    for start in range(0, len(rows), PACKED_BLOCKS):
        some = slice(start, start + PACKED_BLOCKS)
        lower, upper = rows[some, 0], rows[some, 1]
        packed[some, :, 0] = ((lower & 15) | (upper << 4)).transpose(0, 3, 2, 1)
        packed[some, :, 1] = ((lower >> 4) | (upper & 240)).transpose(0, 3, 2, 1)
    for number in np.flatnonzero(held).tolist():
        positions = order[first_row[number] : first_row[number] + held[number]]
        lists.add_entries(number, len(positions), faiss.swig_ptr(positions), faiss.swig_ptr(packed[first_block[number] :]))
