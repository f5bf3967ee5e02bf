"""Which sets of vectors share an inverted file.

A set is indexed alone (`inverted_file.py`), so that it can be kept, read and dropped with its day. Those that lie in
memory are then joined, list by list: the same rows are scanned in a third of the time when those of a list lie in one
place. A set that left is passed over until its file is joined anew.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import faiss
import numpy as np

from akosha_assets.lake.serving.vectors.inverted_file import NUMBERS_PER_BYTE, SCANNED_ROWS, InvertedFile, empty


@dataclass(frozen=True, eq=False)
class Segment:
    """Where a set of vectors lies: under `number` in `file`. `name` is that of a file on disk which holds it alone, if
    there is one.
    """

    file: InvertedFile
    number: int = 0
    name: str | None = None

    def __len__(self) -> int:
        return int(self.file.starts[self.number + 1] - self.file.starts[self.number])

    def alone(self) -> InvertedFile:
        """A file with this set and no other."""
        return self.file if self.file.sets == 1 else merge([self])[0].file


def merge(segments: Sequence[Segment]) -> list[Segment]:
    """The same sets, which have one layout, in one file, in their order. Their blocks are copied as they are."""
    layout = segments[0].file.layout
    starts = np.cumsum([0, *(len(segment) for segment in segments)])
    blocks = np.zeros((len(segments) + 1, len(layout)), np.int64)
    index = empty(layout, int(starts[-1]))
    block_bytes = SCANNED_ROWS * layout.dimensions // NUMBERS_PER_BYTE
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
    file = InvertedFile(index, layout, starts, blocks if len(segments) > 1 else None)
    return [replace(segment, file=file, number=number) for number, segment in enumerate(segments)]


def merge_groups(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Groups of segments, each of one layout, that are better joined: then each file has more than twice the rows of
    all smaller ones together, and none has lost most of its sets.

    So few files are left to search, and a row is copied no more often than what it lies with grows by half.
    """
    of_file: dict[InvertedFile, list[Segment]] = {}
    for segment in segments:
        of_file.setdefault(segment.file, []).append(segment)
    of_layout: dict[object, list[list[Segment]]] = {}
    for held in of_file.values():
        of_layout.setdefault(held[0].file.layout, []).append(held)
    groups = []
    for files in of_layout.values():
        files.sort(key=lambda held: -_rows(held))
        group: list[Segment] = []
        while files and (not group or _rows(files[-1]) <= 2 * _rows(group)):
            group += files.pop()
        for held in [*files]:
            if 2 * _rows(held) < len(held[0].file):
                group += held
        if len({segment.file for segment in group}) > 1 or 2 * _rows(group) < len(group[0].file):
            groups.append(group)
    return groups


def _rows(segments: Sequence[Segment]) -> int:
    return sum(len(segment) for segment in segments)


def _runs(segment: Segment, block_bytes: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each list the codes of the set in their blocks, and its positions in the set."""
    file, start = segment.file, int(segment.file.starts[segment.number])
    lists = file.index.invlists
    sizes = [lists.list_size(number) for number in range(len(file.layout))]
    if file.blocks is None:
        first, last = [0] * len(sizes), [-(-size // SCANNED_ROWS) for size in sizes]
    else:
        first, last = file.blocks[segment.number].tolist(), file.blocks[segment.number + 1].tolist()
    for number, (size, begin, end) in enumerate(zip(sizes, first, last, strict=True)):
        if begin == end:
            yield np.empty(0, np.uint8), np.empty(0, np.int64)
            continue
        codes = faiss.rev_swig_ptr(lists.get_codes(number), end * block_bytes)
        ids = faiss.rev_swig_ptr(lists.get_ids(number), size)[begin * SCANNED_ROWS : end * SCANNED_ROWS]
        yield codes[begin * block_bytes :], ids[ids >= 0] - start
