"""The index of sets of vectors: an inverted file with two bits a number, in the lists of a shared coarse quantizer.

`nearest.py` decides how many lists are probed and ranks the candidates; `merging.py` decides which sets share a file.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from akosha_assets.lake.serving.vectors.quantizer import CoarseQuantizer, Floats, list_count

# Vectors that are converted to float32 at once: they fit in a core's cache.
BLOCK_ROWS = 512
# Rows of a block, which FAISS scans at once; two halves of interleaved eights share their bytes.
SCANNED_ROWS = 32
PACKED_BLOCKS = 64
# FAISS's implementation number for a single query; others build the tables of products again for every list.
SINGLE_QUERY = 11

# A code has two bits for a number.
NUMBERS_PER_BYTE = 4
# Bytes of a vector's position.
ID_BYTES = 8


class InvertedFile:
    """Vectors by position. `index` is FAISS's; it has the lists of `quantizer`.

    In a file of several sets, the vectors of set n have the positions `starts[n]` up to `starts[n + 1]`, and in each
    list the blocks `blocks[n]` up to `blocks[n + 1]`. Unused rows of a set's last block have the position -1.
    """

    def __init__(
        self, index: Any, quantizer: CoarseQuantizer, starts: np.ndarray | None = None, blocks: np.ndarray | None = None
    ):
        self.index, self.quantizer = index, quantizer
        # (sets + 1,) int64, sorted: the first position of each set.
        self.starts = np.array([0, index.ntotal]) if starts is None else starts
        # (sets + 1, lists) int64: the first block of each set in each list; None in a file of one set.
        self.blocks = blocks

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def sets(self) -> int:
        """Number of sets of vectors in the file."""
        return len(self.starts) - 1

    @classmethod
    def build(cls, count: int, quantizer: CoarseQuantizer, floats: Floats) -> "InvertedFile":
        """An index of `count` vectors; `floats` returns the vectors at given positions.

        The dimensions must be a multiple of `NUMBERS_PER_BYTE`.
        """
        lists, dimensions = len(quantizer), quantizer.dimensions
        list_of = _assign_lists(count, quantizer, floats)
        order = np.argsort(list_of, kind="stable")
        codes = np.empty((count, dimensions // NUMBERS_PER_BYTE), np.uint8)
        for start in range(0, count, BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            codes[block] = _codes(floats(order[block]), quantizer.thresholds)
        index = empty_index(quantizer, count)
        _fill(index.invlists, np.bincount(list_of, minlength=lists), order, codes)
        return cls(index, quantizer)

    @classmethod
    def read(cls, path: Path, *, is_mapped: bool) -> "InvertedFile":
        """The index that `write` stored in a file; if mapped, its codes stay in the file."""
        index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if is_mapped else 0)
        flat: Any = faiss.downcast_index(index.quantizer)
        centroids = faiss.rev_swig_ptr(flat.get_xb(), index.nlist * index.d).reshape(index.nlist, index.d)
        points = faiss.vector_to_array(index.pq.centroids).reshape(-1, 16, 2)
        # The first four entries hold the levels of the first number; every fourth entry holds those of the second.
        codebook = np.empty((4, index.d), np.float32)
        codebook[:, 0::2], codebook[:, 1::2] = points[:, :4, 0].T, points[:, ::4, 1].T
        return cls(index, CoarseQuantizer.of(centroids, codebook))

    def write(self, path: Path) -> None:
        """Stores the index in a file."""
        faiss.write_index(self.index, str(path))

    def search(
        self, query: np.ndarray, k: int, lists: np.ndarray, selected: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions, (k,) int64, and estimated products, (k,) float32, of the `k` nearest vectors in `lists`.

        `lists`: (lists,) int64; `selected`: (positions,) bool, the vectors to search; None searches all.
        """
        if not k:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        query = np.ascontiguousarray(query, np.float32)
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe = len(lists)
        if selected is not None:
            # The parameters keep no reference to the selector and its bytes: these variables do.
            bits = np.packbits(selected, bitorder="little")
            selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
            parameters.sel = selector
        elif self.sets > 1:
            # The rows that fill up blocks are no candidates.
            own = faiss.IDSelectorRange(0, len(self))
            parameters.sel = own
        estimates, positions = np.empty(k, np.float32), np.empty(k, np.int64)
        unused = np.zeros(len(lists), np.float32)
        probes = (faiss.swig_ptr(lists), faiss.swig_ptr(unused))
        results = (faiss.swig_ptr(estimates), faiss.swig_ptr(positions))
        self.index.search_preassigned_c(1, faiss.swig_ptr(query), k, *probes, *results, False, parameters)
        is_result = positions >= 0
        return positions[is_result], estimates[is_result]

    def mask(self, selected: Mapping[int, np.ndarray | None]) -> np.ndarray:
        """A mask of the positions, (positions,) bool, from the masks of sets; None selects a whole set."""
        mask = np.zeros(len(self), bool)
        for set_id, of_set in selected.items():
            mask[self.starts[set_id] : self.starts[set_id + 1]] = True if of_set is None else of_set
        return mask

    def locate(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The set of each position, (positions,) int64, and the position in that set."""
        set_ids = np.searchsorted(self.starts, positions, "right") - 1
        return set_ids, positions - self.starts[set_ids]


class Shards:
    """Inverted files of one set each and of one quantizer, searched with one call that chooses the lists once.

    Each call of FAISS releases the interpreter lock, and under load waits to get it back.
    """

    def __init__(self, files: Sequence[InvertedFile], probe_count: int):
        self._files = files
        # (files + 1,) int64: the label of the first vector of each file.
        self._first = np.cumsum([0, *(file.index.ntotal for file in files)])
        quantizer = files[0].quantizer
        shards: Any = faiss.IndexShardsIVF(quantizer.unit_centroids, len(quantizer), False, True)
        for file in files:
            file.index.nprobe = probe_count
            shards.addIndex(file.index)
        self._index = shards

    def search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """File, position and estimated product of the `k` nearest vectors, each (k,)."""
        query = np.ascontiguousarray(query, np.float32)
        estimates, labels = np.empty(k, np.float32), np.empty(k, np.int64)
        self._index.search_c(1, faiss.swig_ptr(query), k, faiss.swig_ptr(estimates), faiss.swig_ptr(labels))
        is_result = labels >= 0
        labels = labels[is_result]
        files = np.searchsorted(self._first, labels, "right") - 1
        return files, labels - self._first[files], estimates[is_result]


def empty_index(quantizer: CoarseQuantizer, count: int) -> Any:
    """FAISS's index with the lists and codebook of `quantizer`, without vectors but with its counter set to `count`."""
    dimensions = quantizer.dimensions
    index = faiss.IndexIVFPQFastScan(
        quantizer.centroid_index, dimensions, len(quantizer), dimensions // 2, 4, faiss.METRIC_INNER_PRODUCT
    )
    faiss.copy_array_to_vector(_points(quantizer.codebook).ravel(), index.pq.centroids)
    index.is_trained, index.ntotal, index.implem = True, count, SINGLE_QUERY
    return index


def nbytes(count: int, dimensions: int) -> int:
    """Estimated bytes of an index: the code and position of each vector, the centroid and half a block of each list."""
    code_bytes = dimensions // NUMBERS_PER_BYTE
    return count * (code_bytes + ID_BYTES) + list_count(count) * (dimensions * 4 + code_bytes * SCANNED_ROWS // 2)


def _assign_lists(count: int, quantizer: CoarseQuantizer, floats: Floats) -> np.ndarray:
    """The list of each vector: (count,) uint16 or int64."""
    projected = np.empty((count, quantizer.pca.d_out), np.float32)
    for start in range(0, count, BLOCK_ROWS):
        projected[start : start + BLOCK_ROWS] = quantizer.pca.apply(floats(slice(start, start + BLOCK_ROWS)))
    # uint16 is sorted in one pass.
    kind = np.uint16 if len(quantizer) <= np.iinfo(np.uint16).max else np.int64
    lists: np.ndarray = quantizer.pca_centroids.search(projected, 1)[1][:, 0].astype(kind)
    return lists


def _codes(vectors: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Codes of two bits a number, (rows, dimensions / 4) uint8; the first of four numbers is in the lowest bits."""
    level = (vectors > thresholds[0]).view(np.uint8)
    level += (vectors > thresholds[1]).view(np.uint8)
    level += (vectors > thresholds[2]).view(np.uint8)
    pairs = level.view("<u4")
    pairs = pairs | pairs >> 6
    packed: np.ndarray = (pairs | pairs >> 12).astype(np.uint8)
    return packed


def _points(codebook: np.ndarray) -> np.ndarray:
    """FAISS's codebook, (dimensions / 2, 16, 2) float32: for each pair of numbers the 16 pairs of their levels.

    The level of the first number is in the lowest bits of the code.
    """
    code = np.arange(16)
    return np.stack([codebook[code & 3, 0::2], codebook[code >> 2, 1::2]], axis=-1).transpose(1, 0, 2)


def _fill(lists: Any, sizes: np.ndarray, order: np.ndarray, codes: np.ndarray) -> None:
    """Adds to each list its positions of `order` and their `codes`, packed in blocks.

    `sizes`: (lists,) int64; `order`: (rows,) int64; `codes`: (rows, dimensions / 4) uint8, in the order of `order`. In
    a block each pair of numbers has 16 bytes, each of two rows.
    """
    blocks = -(-sizes // SCANNED_ROWS)
    first_row, first_block = np.cumsum(sizes) - sizes, np.cumsum(blocks) - blocks
    padded = np.zeros((int(blocks.sum()) * SCANNED_ROWS, codes.shape[1]), np.uint8)
    padded[np.arange(len(codes)) + np.repeat(first_block * SCANNED_ROWS - first_row, sizes)] = codes
    rows = padded.reshape(-1, 2, 2, 8, codes.shape[1])
    packed = np.empty((len(rows), codes.shape[1], 2, 8, 2), np.uint8)
    for start in range(0, len(rows), PACKED_BLOCKS):
        some = slice(start, start + PACKED_BLOCKS)
        lower, upper = rows[some, 0], rows[some, 1]
        packed[some, :, 0] = ((lower & 15) | (upper << 4)).transpose(0, 3, 2, 1)
        packed[some, :, 1] = ((lower >> 4) | (upper & 240)).transpose(0, 3, 2, 1)
    for number in np.flatnonzero(sizes).tolist():
        positions = order[first_row[number] : first_row[number] + sizes[number]]
        lists.add_entries(
            number, len(positions), faiss.swig_ptr(positions), faiss.swig_ptr(packed[first_block[number] :])
        )
