"""Merged inverted files: each set gives the same results as alone, also after other sets are removed."""

from pathlib import Path

import numpy as np
import pytest

from akosha_assets.lake.serving.vectors.inverted_file import InvertedFile
from akosha_assets.lake.serving.vectors.merging import Segment, merge, merge_groups
from akosha_assets.lake.serving.vectors.quantizer import CoarseQuantizer
from tests.lake.serving.vectors.test_inverted_file import vectors

STORED = vectors(9_000)
QUANTIZER = CoarseQuantizer.train(len(STORED), lambda at: STORED[at], 100)
# One has fewer rows than lists, so most of its lists are empty.
PIECES = [STORED[:4_000], STORED[4_000:4_060], STORED[4_060:]]


def segments() -> list[Segment]:
    built = [InvertedFile.build(len(piece), QUANTIZER, piece.__getitem__) for piece in PIECES]
    return [Segment(file, name=f"file-{number}") for number, file in enumerate(built)]


def found(file: InvertedFile, wanted: int, selected: np.ndarray | None = None) -> dict[int, float]:
    positions, estimates = file.search(STORED[5], wanted, QUANTIZER.probe(STORED[5], 30), selected)
    assert len(set(positions.tolist())) == len(positions)
    return dict(zip(positions.tolist(), estimates.tolist(), strict=True))


def test_merged_sets_give_the_same_results_as_separate_files() -> None:
    alone = segments()
    together = merge(alone)
    file = together[0].file
    expected: dict[int, float] = {}
    for segment in together:
        start = int(file.starts[segment.set_id])
        expected |= {start + at: score for at, score in found(alone[segment.set_id].file, 9_000).items()}
    assert found(file, 9_000) == pytest.approx(expected)
    best = sorted(expected.values(), reverse=True)[:60]
    assert sorted(found(file, 60).values(), reverse=True) == pytest.approx(best)
    assert [len(segment) for segment in together] == [len(piece) for piece in PIECES]
    assert [segment.name for segment in together] == ["file-0", "file-1", "file-2"]


def test_a_mask_excludes_the_sets_that_it_does_not_name() -> None:
    alone = segments()
    file = merge(alone)[0].file
    every_third = np.arange(len(PIECES[2])) % 3 == 0
    selected = file.mask({1: None, 2: every_third})
    expected = {4_000 + at: score for at, score in found(alone[1].file, 9_000).items()}
    expected |= {4_060 + at: score for at, score in found(alone[2].file, 9_000).items() if every_third[at]}
    assert found(file, 9_000, selected) == pytest.approx(expected)


def test_a_position_in_a_file_maps_to_set_and_position() -> None:
    file = merge(segments())[0].file
    numbers, positions = file.locate(np.array([0, 3_999, 4_000, 4_059, 4_060, 8_999]))
    assert (numbers.tolist(), positions.tolist()) == ([0, 0, 1, 1, 2, 2], [0, 3_999, 0, 59, 0, 4_939])


def test_merging_again_drops_a_removed_set() -> None:
    alone = segments()
    first = merge(alone)
    again = merge([first[2], first[0]])
    assert [len(segment) for segment in again] == [4_940, 4_000]
    expected = found(alone[2].file, 9_000)
    expected |= {4_940 + at: score for at, score in found(alone[0].file, 9_000).items()}
    assert found(again[0].file, 9_000) == pytest.approx(expected)


def test_a_set_copied_out_of_a_merged_file_is_unchanged(tmp_path: Path) -> None:
    alone = segments()
    for before, segment in zip(alone, merge(alone), strict=True):
        out = segment.own_file()
        assert out.index.ntotal == len(segment)
        out.write(tmp_path / "out")
        read = InvertedFile.read(tmp_path / "out", is_mapped=True)
        assert found(read, 9_000) == found(before.file, 9_000)
    assert alone[0].own_file() is alone[0].file


def of_sizes(*files: list[int]) -> list[list[Segment]]:
    """Segments with these numbers of rows, grouped by file."""
    built = []
    for sizes in files:
        file = InvertedFile(None, QUANTIZER, np.cumsum([0, *sizes]))
        built.append([Segment(file, number) for number in range(len(sizes))])
    return built


@pytest.mark.parametrize(
    ("files", "removed", "groups"),
    [
        # Days of equal size are merged at once; a file of more than twice the smaller ones together is unchanged.
        ([[10], [10], [10]], {}, [{0, 1, 2}]),
        ([[70, 10], [10]], {}, []),
        ([[70, 10], [10], [15]], {}, [{1, 2}]),
        ([[70, 10], [30], [15]], {}, [{0, 1, 2}]),
        ([[10]], {}, []),
        # A file that lost most of its sets is merged again, alone or with others.
        ([[10, 10, 10]], {(0, 0), (0, 1)}, [{0}]),
        ([[10, 10, 10]], {(0, 0)}, []),
        ([[100, 90], [5]], {(0, 0)}, [{0, 1}]),
    ],
)
def test_merging_leaves_few_files_and_none_half_empty(
    files: list[list[int]], removed: set[tuple[int, int]], groups: list[set[int]]
) -> None:
    built = of_sizes(*files)
    of = {
        segment: number
        for number, group in enumerate(built)
        for segment in group
        if (number, segment.set_id) not in removed
    }
    assert [{of[segment] for segment in group} for group in merge_groups(list(of))] == groups
