"""Nearest neighbours: the two stages against an exact scan, with and without filters, for each form a tier keeps."""

from dataclasses import replace

import faiss
import numpy as np
import pyarrow as pa
import pytest

from akosha_assets.lake.lifecycle.quantization import to_int8, to_sketch
from akosha_assets.lake.serving.vectors import nearest as nearest_module
from akosha_assets.lake.serving.vectors.decoding import decode_vectors
from akosha_assets.lake.serving.vectors.merging import merge as joined_segments
from akosha_assets.lake.serving.vectors.nearest import nearest
from akosha_assets.lake.serving.vectors.quantizer import CoarseQuantizers
from akosha_assets.lake.serving.vectors.vector_set import VectorSet, concatenate_vectors
from akosha_assets.lake.vector_rules import VECTOR_MAX_NUMBERS, find_unusable

DIMENSIONS = 192


def clustered(count: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(count // 50 + 1, DIMENSIONS))
    rows = centres[rng.integers(0, len(centres), count)] + rng.normal(size=(count, DIMENSIONS)) * 0.6
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def stored() -> np.ndarray:
    return clustered(40_000)


@pytest.fixture(scope="module", params=["a file each", "one file", "one file that lost a set"])
def sets(stored: np.ndarray, request: pytest.FixtureRequest) -> list[VectorSet]:
    halves = np.split(stored.astype(np.float16), 2)
    quantizers = CoarseQuantizers()
    indexed = [VectorSet(np.arange(len(half), dtype=np.int32), half).with_index("space", quantizers) for half in halves]
    if request.param == "a file each":
        return indexed
    removed = [indexed[1]] if request.param == "one file that lost a set" else []
    together = joined_segments([each.index for each in [*removed, *indexed] if each.index is not None])[len(removed) :]
    return [replace(each, index=segment) for each, segment in zip(indexed, together, strict=True)]


def recall(sets: list[VectorSet], stored: np.ndarray, mask: np.ndarray | None = None) -> float:
    hits = 0
    masks = [None] * len(sets) if mask is None else np.split(mask, len(sets))
    size = len(stored) // len(sets)
    for query in stored[::2000]:
        scores = stored @ query if mask is None else np.where(mask, stored @ query, -9)
        truth = set(np.argsort(-scores)[:10].tolist())
        owners, rows, _ = nearest(list(zip(sets, masks, strict=True)), query, 10)
        hits += len(truth & set((owners * size + rows).tolist()))
    return hits / (10 * len(stored[::2000]))


def test_an_index_finds_the_results_of_an_exact_scan(sets: list[VectorSet], stored: np.ndarray) -> None:
    assert sets[0].index is not None
    assert recall(sets, stored) >= 0.99


@pytest.mark.parametrize("share", [0.001, 0.1, 0.7])
def test_a_filter_is_applied_before_ranking(sets: list[VectorSet], stored: np.ndarray, share: float) -> None:
    mask = np.random.default_rng(3).random(len(stored)) < share
    assert recall(sets, stored, mask) >= 0.99


def test_scores_are_cosines_of_the_stored_vectors(sets: list[VectorSet], stored: np.ndarray) -> None:
    _, rows, scores = nearest([(sets[0], None)], stored[7], 3)
    assert rows[0] == 7
    np.testing.assert_allclose(scores, stored[rows] @ stored[7], atol=2e-3)


def test_float16_is_converted_exactly() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)].reshape(-1, 32)
    vector_set = VectorSet(np.arange(len(finite), dtype=np.int32), finite)
    np.testing.assert_array_equal(vector_set.floats(slice(None)), finite.astype(np.float32))


def test_several_threads_rank_like_one(
    sets: list[VectorSet], stored: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = [(sets[0], None), (VectorSet(sets[1].rows[:500], sets[1].matrix[:500]), None), (sets[1], None)]
    alone = nearest(three, stored[7], 20)
    monkeypatch.setattr(nearest_module, "PARALLEL_ROWS", 0)
    for found, expected in zip(nearest(three, stored[7], 20), alone, strict=True):
        assert found.tolist() == expected.tolist()


def test_the_size_of_a_set_includes_its_index(sets: list[VectorSet]) -> None:
    vector_set = sets[0]
    assert vector_set.index is not None
    index_bytes = faiss.serialize_index(vector_set.index.own_file().index).nbytes
    assert vector_set.nbytes - vector_set.rows.nbytes - vector_set.matrix.nbytes == pytest.approx(index_bytes, rel=0.2)


def test_int8_ranks_nearly_as_well_and_a_sketch_says_it_is_approximate(stored: np.ndarray) -> None:
    numbers, scale = to_int8(stored)
    warm = VectorSet(np.arange(len(stored), dtype=np.int32), numbers, "int8", scale).with_index(
        "space", CoarseQuantizers()
    )
    assert recall([warm], stored) >= 0.98
    bits, scale = to_sketch(stored)
    cold = VectorSet(np.arange(len(stored), dtype=np.int32), bits, "sketch", scale)
    assert (cold.is_approximate, cold.dimensions) == (True, DIMENSIONS)
    _, rows, scores = nearest([(cold, None)], stored[7], 1)
    assert rows[0] == 7
    assert scores[0] == pytest.approx(1, abs=0.2)
    assert cold.vector_of(7) is None


def test_the_remaining_vectors_get_new_rows_after_a_removal(stored: np.ndarray) -> None:
    keep = np.arange(100) % 2 == 0
    some = VectorSet(np.arange(0, 100, 4, dtype=np.int32), stored[:25].astype(np.float16))
    remaining = some.filter(keep)
    assert remaining.rows.tolist() == list(range(0, 50, 2))
    vector = remaining.vector_of(2)
    assert vector is not None
    np.testing.assert_allclose(vector, stored[1], atol=1e-3)
    assert concatenate_vectors([(0, some), (100, some)]).rows.tolist() == [*range(0, 100, 4), *range(100, 200, 4)]


def test_vectors_of_wrong_length_or_not_finite_are_left_out() -> None:
    good = np.ones(4, "<f2").tobytes()
    infinite = np.array([1, np.inf, 0, 0], "<f2").tobytes()
    column = pa.array([good, None, infinite, good[:6], good], pa.binary())
    spaces = pa.array(["a", None, "a", "a", "b"])
    lengths: dict[str, int] = {}
    found, refused = decode_vectors(column, spaces, "float16", None, lengths)
    assert refused == 2
    assert (found["a"].rows.tolist(), found["b"].rows.tolist()) == ([0], [4])
    assert lengths == {"a": 8, "b": 8}
    again, refused = decode_vectors(pa.array([good[:4]], pa.binary()), pa.array(["a"]), "float16", None, lengths)
    assert (again, refused) == ({}, 1)


def test_a_sketch_of_more_numbers_than_any_model_makes_is_left_out() -> None:
    # Its rotation would block a search for similar rows for minutes.
    longest = VECTOR_MAX_NUMBERS // 8
    for size, count in ((longest + 1, 0), (16, 1)):
        column, scales = pa.array([bytes(size)], pa.binary()), np.ones(1, np.float32)
        found, refused = decode_vectors(column, pa.array(["a"]), "sketch", scales, {})
        assert (len(found), refused) == (count, 1 - count)
        batch = pa.record_batch({"sketch": column, "sketch_scale": pa.array(scales)})
        assert (find_unusable(batch) == {}) is bool(count)
