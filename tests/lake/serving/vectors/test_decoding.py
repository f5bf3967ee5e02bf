"""Sets of vectors from stored columns: passages, and those that do not fit."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from akosha_assets.lake.serving.vectors.decoding import PassageColumns, coverage_of, decode_vectors
from akosha_assets.lake.serving.vectors.vector_set import Coverage, VectorSet, concatenate_vectors

DIMENSIONS = 8


def halves(*values: float) -> bytes:
    return np.repeat(np.array(values, "<f2"), DIMENSIONS).tobytes()


def ranges(*ends: int) -> bytes:
    return np.array(ends, "<i4").tobytes()


def decoded(
    vectors: list[bytes | None], passages: list[bytes | None], of_texts: list[bytes | None], scales: Any = None
) -> tuple[VectorSet, int]:
    count = len(vectors)
    columns = PassageColumns(
        vectors=pa.array(passages, pa.binary()),
        scales=pa.array(scales or [None] * count, pa.binary()),
        ranges=pa.array(of_texts, pa.binary()),
    )
    by_space, left_out = decode_vectors(
        pa.array(vectors, pa.binary()),
        pa.array(["a"] * count),
        "int8" if scales else "float16",
        np.ones(count, np.float32) if scales else None,
        {},
        columns,
    )
    return by_space["a"], left_out


def test_a_row_with_passages_has_several_vectors_in_order() -> None:
    vectors, left_out = decoded(
        [halves(1), None, halves(2), halves(4)],
        [None, None, halves(2.5, 3), halves(5)],
        [ranges(0, 9), None, ranges(0, 10, 8, 20, 18, 25), ranges(0, 6, 4, 11)],
    )
    assert left_out == 0
    assert vectors.rows.tolist() == [0, 2, 2, 2, 3, 3]
    assert vectors.matrix[:, 0].tolist() == [1, 2, 2.5, 3, 4, 5]
    assert vectors.passages is not None
    assert vectors.passages.tolist() == [[0, 0], [0, 10], [8, 20], [18, 25], [0, 6], [4, 11]]
    assert vectors.distinct_rows.tolist() == [0, 2, 3]
    first = vectors.vector_of(2)
    assert first is not None and first[0] == 2
    assert vectors.query_vectors(2)[:, 0].tolist() == [2, 2.5, 3]
    assert len(vectors.query_vectors(1)) == 0


@pytest.mark.parametrize(
    ("passages", "of_text", "left_out"),
    [
        (halves(2)[:-2], ranges(0, 5, 4, 9), 1),
        (halves(2, 3), ranges(0, 5, 4, 9), 2),
        (halves(2), ranges(0, 5), 1),
        (halves(2), ranges(0, 5, 4, 9)[:-1], 1),
        (halves(2), None, 1),
        (b"", ranges(0, 5), 0),
        (halves(np.inf), ranges(0, 5, 4, 9), 1),
    ],
)
def test_passages_that_do_not_fit_are_left_out_and_the_row_is_found_by_its_vector(
    passages: bytes, of_text: bytes | None, left_out: int
) -> None:
    vectors, found = decoded([halves(1), halves(7)], [passages, halves(8)], [of_text, ranges(0, 5, 4, 9)])
    assert (vectors.rows.tolist(), found) == ([0, 1, 1], left_out)


def test_passages_of_int8_have_their_own_scales() -> None:
    one = bytes([2] * DIMENSIONS)
    scale = np.array([0.5], "<f4").tobytes()
    vectors, left_out = decoded([one, one], [one, one], [ranges(0, 5, 4, 9)] * 2, scales=[scale, scale + scale])
    assert (vectors.rows.tolist(), left_out) == ([0, 0, 1], 1)
    assert vectors.floats(slice(None))[:, 0].tolist() == [2, 1, 2]


def test_filters_and_concatenation_keep_the_passages_of_each_row() -> None:
    vectors, _ = decoded([halves(1), halves(2)], [None, halves(3)], [ranges(0, 4), ranges(0, 5, 4, 9)])
    plain, _ = decoded([halves(6)], [None], [None])
    kept = vectors.filter(np.array([False, True]))
    assert kept.passages is not None
    assert (kept.rows.tolist(), kept.passages.tolist()) == ([0, 0], [[0, 5], [4, 9]])
    joined = concatenate_vectors([(0, plain), (1, vectors)])
    assert joined.passages is not None
    assert (joined.rows.tolist(), joined.passages.tolist()) == ([0, 1, 2, 2], [[0, 0], [0, 0], [0, 5], [4, 9]])
    # Three rows, of which one has no vector: as many as the set has vectors.
    selected = vectors.selection(np.array([False, True, False]))
    assert selected is not None and selected.tolist() == [False, True, True]


def test_the_coverage_of_a_text_follows_from_its_ranges_and_length() -> None:
    of_texts = pa.array([None, None, ranges(0, 5), ranges(0, 5), ranges(0, 5, 4, 2000), b"odd"], pa.binary())
    text_bytes = np.array([900, 2000, 5, 6, 2000, 2000])
    whole, waiting, partial = Coverage.WHOLE, Coverage.WAITING, Coverage.PARTIAL
    assert coverage_of(of_texts, text_bytes, waiting).tolist() == [whole, waiting, whole, partial, whole, whole]


@pytest.mark.parametrize("form", ["float16", "int8", "sketch"])
def test_vectors_without_a_number_are_left_out(form: str) -> None:
    scales = None if form == "float16" else np.ones(2, np.float32)
    found, left_out = decode_vectors(pa.array([b"", b""]), pa.array(["a", "a"]), form, scales, {})
    assert (found, left_out) == ({}, 2)
