"""The index of sets of vectors: an inverted file with two bits a number, in the layout of lists and levels that it
shares.

How many lists are looked into, and what becomes of the candidates, is `nearest.py`'s to say; which sets lie in one file
is `merging.py`'s.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from akosha_assets.lake.serving.vectors.quantizer import CoarseQuantizer, Floats, list_count

# Vectors that become float32 together: as many as stay in a core's cache.
BLOCK_ROWS = 512
# What FAISS scans at once: rows of a block, of which two halves of interleaved eights share their bytes.
SCANNED_ROWS = 32
PACKED_BLOCKS = 64
# FAISS's way of scanning for a single question: without it the tables of products are laid out anew for every list.
SINGLE_QUESTION = 11

# A code has two bits for a number.
NUMBERS_PER_BYTE = 4
# Of a vector's position.
ID_BYTES = 8


class InvertedFile:
    """Vectors under their positions. `index` is FAISS's; it has the lists of `layout`.

    Of several sets in one file, the vectors of number n have the positions from `starts[n]` up to `starts[n + 1]`, and
    in each list the blocks from `blocks[n]` up to `blocks[n + 1]`. What a set leaves of its last block in a list has
    the position -1. A file of one set has no `blocks`.
    """

    def __init__(
        self, index: Any, layout: CoarseQuantizer, starts: np.ndarray | None = None, blocks: np.ndarray | None = None
    ):
        self.index, self.layout = index, layout
        self.starts = np.array([0, index.ntotal]) if starts is None else starts
        self.blocks = blocks

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def sets(self) -> int:
        """How many sets of vectors lie in it."""
        return len(self.starts) - 1

    @classmethod
    def built(cls, count: int, layout: CoarseQuantizer, floats: Floats) -> "InvertedFile":
        """An index of `count` vectors, of which `floats` gives those at some positions.

        Their dimensions are a multiple of `NUMBERS_PER_BYTE`.
        """
        lists, dimensions = len(layout), layout.dimensions
        assigned = _assigned(count, layout, floats)
        order = np.argsort(assigned, kind="stable")
        codes = np.empty((count, dimensions // NUMBERS_PER_BYTE), np.uint8)
        for start in range(0, count, BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            codes[block] = _codes(floats(order[block]), layout.thresholds)
        index = empty(layout, count)
        _fill(index.invlists, np.bincount(assigned, minlength=lists), order, codes)
        return cls(index, layout)

    @classmethod
    def read(cls, path: Path, *, is_mapped: bool) -> "InvertedFile":
        """The index that `write` left in a file; where it is mapped, its codes stay there."""
        index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if is_mapped else 0)
        quantizer: Any = faiss.downcast_index(index.quantizer)
        means = faiss.rev_swig_ptr(quantizer.get_xb(), index.nlist * index.d).reshape(index.nlist, index.d)
        points = faiss.vector_to_array(index.pq.centroids).reshape(-1, 16, 2)
        # Of the codes the first four have the lowest level for the second number, the other way round every fourth.
        levels = np.empty((4, index.d), np.float32)
        levels[:, 0::2], levels[:, 1::2] = points[:, :4, 0].T, points[:, ::4, 1].T
        return cls(index, CoarseQuantizer.of(means, levels))

    def write(self, path: Path) -> None:
        """The index lies in a file."""
        faiss.write_index(self.index, str(path))

    def search(
        self, query: np.ndarray, wanted: int, lists: np.ndarray, selected: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the `wanted` vectors of these lists that are nearest by their codes, and the estimates of their
        products.

        Of those that the mask `selected` holds for, where there is one.
        """
        if not wanted:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        query = np.ascontiguousarray(query, np.float32)
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe = len(lists)
        if selected is not None:
            # The parameters hold no reference to the bytes of the selector.
            bits = np.packbits(selected, bitorder="little")
            selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
            parameters.sel = selector
        elif self.sets > 1:
            # What only fills up blocks is no candidate.
            some = faiss.IDSelectorRange(0, len(self))
            parameters.sel = some
        estimates, positions = np.empty(wanted, np.float32), np.empty(wanted, np.int64)
        unused = np.zeros(len(lists), np.float32)
        given = (faiss.swig_ptr(lists), faiss.swig_ptr(unused))
        found = (faiss.swig_ptr(estimates), faiss.swig_ptr(positions))
        self.index.search_preassigned_c(1, faiss.swig_ptr(query), wanted, *given, *found, False, parameters)
        there = positions >= 0
        return positions[there], estimates[there]

    def mask(self, selected: Mapping[int, np.ndarray | None]) -> np.ndarray:
        """A mask of the positions of these sets: of each those that its own mask holds for, or all where it has none."""
        whole = np.zeros(len(self), bool)
        for number, of_set in selected.items():
            whole[self.starts[number] : self.starts[number + 1]] = True if of_set is None else of_set
        return whole

    def located(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The number of the set of each position, and the position there."""
        numbers = np.searchsorted(self.starts, positions, "right") - 1
        return numbers, positions - self.starts[numbers]


class Shards:
    """Inverted files of one set each and of one layout, searched with one call, which chooses the lists for all of
    them.

    Each call of FAISS gives up the interpreter lock, and under load waits for it.
    """

    def __init__(self, files: Sequence[InvertedFile], probed: int):
        self._files = files
        self._first = np.cumsum([0, *(file.index.ntotal for file in files)])
        layout = files[0].layout
        shards: Any = faiss.IndexShardsIVF(layout.unit_centroids, len(layout), False, True)
        for file in files:
            file.index.nprobe = probed
            shards.addIndex(file.index)
        self._index = shards

    def search(self, query: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the `wanted` vectors that are nearest by their codes the number of the file, the position, the estimate of
        the product.
        """
        query = np.ascontiguousarray(query, np.float32)
        estimates, labels = np.empty(wanted, np.float32), np.empty(wanted, np.int64)
        self._index.search_c(1, faiss.swig_ptr(query), wanted, faiss.swig_ptr(estimates), faiss.swig_ptr(labels))
        there = labels >= 0
        labels = labels[there]
        numbers = np.searchsorted(self._first, labels, "right") - 1
        return numbers, labels - self._first[numbers], estimates[there]


def empty(layout: CoarseQuantizer, count: int) -> Any:
    """FAISS's index with the lists and points of `layout`, which says that it has `count` vectors."""
    dimensions = layout.dimensions
    index = faiss.IndexIVFPQFastScan(
        layout.quantizer, dimensions, len(layout), dimensions // 2, 4, faiss.METRIC_INNER_PRODUCT
    )
    faiss.copy_array_to_vector(_points(layout.codebook).ravel(), index.pq.centroids)
    index.is_trained, index.ntotal, index.implem = True, count, SINGLE_QUESTION
    return index


def nbytes(count: int, dimensions: int) -> int:
    """Bytes of the index of so many vectors, nearly: of each its code and its position, of each list its mean and half
    a block.
    """
    code_bytes = dimensions // NUMBERS_PER_BYTE
    return count * (code_bytes + ID_BYTES) + list_count(count) * (dimensions * 4 + code_bytes * SCANNED_ROWS // 2)


def _assigned(count: int, layout: CoarseQuantizer, floats: Floats) -> np.ndarray:
    """The list of each vector."""
    turned = np.empty((count, layout.pca.d_out), np.float32)
    for start in range(0, count, BLOCK_ROWS):
        turned[start : start + BLOCK_ROWS] = layout.pca.apply(floats(slice(start, start + BLOCK_ROWS)))
    # A narrow type is sorted in one pass.
    return layout.pca_centroids.search(turned, 1)[1][:, 0].astype(
        np.uint16 if len(layout) <= np.iinfo(np.uint16).max else np.int64
    )


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
    """Each list has its positions of `order` and their `codes`, in blocks: for each pair of numbers 16 bytes of two
    rows each.
    """
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
        lists.add_entries(
            number, len(positions), faiss.swig_ptr(positions), faiss.swig_ptr(packed[first_block[number] :])
        )
