"""Merges the inverted files of sets of vectors.

Each set is indexed alone (`inverted_file.py`), so it can be stored, loaded and dropped with its day. The files in
memory are then merged list by list: a scan takes a third of the time when the rows of a list are contiguous. A removed
set is skipped until its file is merged again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import faiss
import numpy as np

from akosha_assets.lake.serving.vectors.inverted_file import (
    NUMBERS_PER_BYTE,
    SCANNED_ROWS,
    InvertedFile,
    empty_index,
)


@dataclass(frozen=True, eq=False)
class Segment:
    """The place of a set of vectors: `set_id` in `file`. `name`: the file on disk that holds this set alone, if any."""

    file: InvertedFile
    set_id: int = 0
    name: str | None = None

    def __len__(self) -> int:
        return int(self.file.starts[self.set_id + 1] - self.file.starts[self.set_id])

    def own_file(self) -> InvertedFile:
        """A file with this set and no other."""
        return self.file if self.file.sets == 1 else merge([self])[0].file


def merge(segments: Sequence[Segment]) -> list[Segment]:
    """The same sets, which share a quantizer, in one file and in their order. Blocks are copied unchanged."""
    quantizer = segments[0].file.quantizer
    starts = np.cumsum([0, *(len(segment) for segment in segments)])
    blocks = np.zeros((len(segments) + 1, len(quantizer)), np.int64)
    index = empty_index(quantizer, int(starts[-1]))
    block_bytes = SCANNED_ROWS * quantizer.dimensions // NUMBERS_PER_BYTE
    for number, runs in enumerate(zip(*(_runs(segment, block_bytes) for segment in segments), strict=True)):
        blocks[1:, number] = np.cumsum([len(codes) // block_bytes for codes, _ in runs])
        ids = np.full(int(blocks[-1, number]) * SCANNED_ROWS, -1, np.int64)
        stop = 0
        for first, block, (_, positions) in zip(starts.tolist(), blocks[:, number].tolist(), runs, strict=False):
            if len(positions):
                stop = block * SCANNED_ROWS + len(positions)
                ids[stop - len(positions) : stop] = positions + first
        if stop:
            codes = np.concatenate([codes for codes, _ in runs])
            index.invlists.add_entries(number, stop, faiss.swig_ptr(ids), faiss.swig_ptr(codes))
    file = InvertedFile(index, quantizer, starts, blocks if len(segments) > 1 else None)
    return [replace(segment, file=file, set_id=set_id) for set_id, segment in enumerate(segments)]


def merge_groups(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Groups of segments to merge, each group of one quantizer.

    After merging, each file has more than twice the rows of all smaller files together, and no file has lost most of
    its sets. So a search visits few files, and a row is copied only when its file grows by half.
    """
    by_file: dict[InvertedFile, list[Segment]] = {}
    for segment in segments:
        by_file.setdefault(segment.file, []).append(segment)
    by_quantizer: dict[object, list[list[Segment]]] = {}
    for of_file in by_file.values():
        by_quantizer.setdefault(of_file[0].file.quantizer, []).append(of_file)
    groups = []
    for files in by_quantizer.values():
        files.sort(key=lambda of_file: -_rows(of_file))
        group: list[Segment] = []
        while files and (not group or _rows(files[-1]) <= 2 * _rows(group)):
            group += files.pop()
        for of_file in [*files]:
            if 2 * _rows(of_file) < len(of_file[0].file):
                group += of_file
        if len({segment.file for segment in group}) > 1 or 2 * _rows(group) < len(group[0].file):
            groups.append(group)
    return groups


def _rows(segments: Sequence[Segment]) -> int:
    return sum(len(segment) for segment in segments)


def _runs(segment: Segment, block_bytes: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each list the packed codes of the set, (bytes,) uint8, and its positions in the set, (rows,) int64."""
    file, start = segment.file, int(segment.file.starts[segment.set_id])
    lists = file.index.invlists
    sizes = [lists.list_size(number) for number in range(len(file.quantizer))]
    if file.blocks is None:
        first, last = [0] * len(sizes), [-(-size // SCANNED_ROWS) for size in sizes]
    else:
        first, last = file.blocks[segment.set_id].tolist(), file.blocks[segment.set_id + 1].tolist()
    for number, (size, begin, end) in enumerate(zip(sizes, first, last, strict=True)):
        if begin == end:
            yield np.empty(0, np.uint8), np.empty(0, np.int64)
            continue
        codes = faiss.rev_swig_ptr(lists.get_codes(number), end * block_bytes)
        ids = faiss.rev_swig_ptr(lists.get_ids(number), size)[begin * SCANNED_ROWS : end * SCANNED_ROWS]
        yield codes[begin * block_bytes :], ids[ids >= 0] - start
