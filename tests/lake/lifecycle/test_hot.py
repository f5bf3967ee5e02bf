"""Rows that arrived without a vector are embedded."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.embeddings import Embedder
from akosha_assets.lake.lifecycle import aging, cold, hot, quantization, recall, warm
from akosha_assets.lake.lifecycle.hot import (
    PIECE_ROWS,
    days_without_passages,
    days_without_vectors,
    embed_day,
    embed_passages,
)
from akosha_assets.lake.lifecycle.moving import Aged
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle.warm import Move
from akosha_assets.lake.passages import UNCUT_MAX_BYTES, CutTexts
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.settings import LakeSettings
from tests import old_tables, tiny_model
from tests.lake.lifecycle.memories import NOW, SPACE, TODAY, days_ago, hot_rows, store, vectors

DAY = days_ago(1)
LONG = "redis eviction. " * 300


def test_embedding_a_day_saves_its_progress_when_stopped_and_resumes(tmp_path: Path) -> None:
    lake = lake_with_model(tmp_path)
    day = days_ago(1)
    store(lake, hot_rows(day, 3 * PIECE_ROWS, embedded=False))
    embedder = Embedder.load(lake.settings)
    answers = iter([False, True, True])
    first = embed_day(lake, day, embedder, run_id="r", stop=lambda: next(answers))
    assert first.rows == PIECE_ROWS
    assert days_without_vectors(lake, embedder.space) == {day: 2 * PIECE_ROWS}
    assert embed_day(lake, day, embedder, run_id="r").rows == 2 * PIECE_ROWS
    assert days_without_vectors(lake, embedder.space) == {}


def lake_with_model(tmp_path: Path) -> Lake:
    model = tiny_model.make(tmp_path / "model")
    return Lake(LakeSettings(home=tmp_path, embedding_model="akosha/tiny", embedding_model_dir=model))


def with_columns(rows: pa.Table, **columns: list[Any]) -> pa.Table:
    for name, values in columns.items():
        field = HOT.schema.field(name)
        rows = rows.set_column(rows.schema.get_field_index(name), field, pa.array(values, field.type))
    return rows


def stored(lake: Lake) -> list[dict[str, Any]]:
    columns = ["id", "text", "vector", "space", "passages", "passage_ranges"]
    rows: list[dict[str, Any]] = lake.select(HOT.address, columns).sort_by("id").to_pylist()
    return rows


def test_long_texts_get_a_vector_for_each_passage(tmp_path: Path) -> None:
    lake = lake_with_model(tmp_path)
    texts = ["redis eviction", LONG, "é postgres lock. " * 200]
    store(lake, with_columns(hot_rows(DAY, 3, embedded=False), text=texts))
    embedder = Embedder.load(lake.settings)
    assert embed_day(lake, DAY, embedder, run_id="r").rows == 3
    short, *long = stored(lake)
    assert (short["passages"], short["passage_ranges"]) == (None, np.array([0, 14], "<i4").tobytes())
    for row in long:
        ranges = np.frombuffer(row["passage_ranges"], "<i4").reshape(-1, 2).tolist()
        assert len(row["passages"]) == (len(ranges) - 1) * len(row["vector"])
        assert (ranges[0][0], ranges[-1][1]) == (0, len(row["text"].encode()))
        read = [row["text"].encode()[start:end].decode() for start, end in ranges]
        vectors = np.frombuffer(row["vector"] + row["passages"], "<f2").reshape(len(ranges), -1)
        assert np.allclose(vectors, embedder.embed(read), atol=1e-3)
    assert days_without_passages(lake, embedder.space) == {}


def test_rows_that_are_embedded_already_keep_their_vector_and_get_passages_some_at_a_time(tmp_path: Path) -> None:
    lake = lake_with_model(tmp_path)
    embedder = Embedder.load(lake.settings)
    rows = with_columns(hot_rows(DAY, 5), text=[LONG, "short", LONG, "short", LONG], space=[embedder.space] * 5)
    old_tables.write_without(lake, HOT.address, rows)
    before = [row["vector"] for row in stored(lake)]
    assert days_without_passages(lake, embedder.space) == {DAY: 5}
    assert len(LONG) > UNCUT_MAX_BYTES
    assert days_without_passages(lake, embedder.space, [DAY]) == {DAY: 3}
    assert embed_passages(lake, DAY, embedder, run_id="r", rows_max=2).rows == 2
    assert days_without_passages(lake, embedder.space) == {DAY: 3}
    assert embed_passages(lake, DAY, embedder, run_id="r").rows == 3
    assert embed_passages(lake, DAY, embedder, run_id="r").version is None
    after = stored(lake)
    assert [row["vector"] for row in after] == before
    assert [row["passages"] is not None for row in after] == [True, False, True, False, True]


def test_another_model_makes_vectors_and_passages_anew(tmp_path: Path) -> None:
    lake = lake_with_model(tmp_path)
    embedder = Embedder.load(lake.settings)
    stale = with_columns(
        hot_rows(DAY, 1), text=[LONG], passages=[b"old"], passage_ranges=[np.array([0, 9, 5, 12], "<i4").tobytes()]
    )
    store(lake, stale)
    assert days_without_passages(lake, embedder.space) == {}
    embed_day(lake, DAY, embedder, run_id="r")
    [row] = stored(lake)
    assert row["space"] == embedder.space
    assert len(row["passages"]) % len(row["vector"]) == 0


def test_a_kill_costs_a_bounded_number_of_long_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = lake_with_model(tmp_path)
    store(lake, with_columns(hot_rows(DAY, 4, embedded=False), text=[LONG] * 4))
    monkeypatch.setattr(hot, "COMMIT_BYTES", 2 * len(LONG))
    monkeypatch.setattr(hot, "PIECE_BYTES", len(LONG))
    answers = iter([False, False, False, True, True])
    embedder = Embedder.load(lake.settings)
    assert embed_day(lake, DAY, embedder, run_id="r", stop=lambda: next(answers)).rows == 3
    assert days_without_vectors(lake, embedder.space) == {DAY: 1}


@pytest.mark.parametrize(("age", "tier"), [(8, "warm"), (100, "cold")])
def test_aging_makes_missing_passages_and_keeps_them_in_the_form_of_the_tier(
    tmp_path: Path, age: int, tier: str
) -> None:
    lake = lake_with_model(tmp_path)
    embedder = Embedder.load(lake.settings)
    rows = with_columns(hot_rows(days_ago(age), 120), space=[embedder.space] * 120)
    texts = rows["text"].to_pylist()
    texts[:3] = [LONG, LONG + "tls certificate", "postgres lock. " * 300]
    old_tables.write_without(lake, HOT.address, with_columns(rows, text=texts))
    [aged] = age_all(lake, days_ago(age))
    assert isinstance(aged, Aged)
    assert (aged.tier, aged.rows, aged.rows_without_vector) == (tier, 120, 0)
    columns = ["id", "passages", "passage_scales", "passage_ranges", "text_bytes"]
    kept = lake.select(f"lifecycle/{tier}", columns).sort_by("id").to_pylist()
    for row, text in zip(kept, texts, strict=True):
        cut = CutTexts.cut(embedder, [text])
        assert row["passage_ranges"] == cut.ranges[0]
        if cut.is_short(0):
            assert (row["passages"], row["passage_scales"]) == (None, None)
            continue
        exact = embedder.embed(cut.others)
        scales = np.frombuffer(row["passage_scales"], "<f4")
        if tier == "warm":
            numbers = np.frombuffer(row["passages"], "i1").reshape(len(exact), -1)
            assert np.allclose(quantization.from_int8(numbers, scales), exact, atol=5e-3)
        else:
            sketches = np.frombuffer(row["passages"], "u1").reshape(len(exact), -1)
            estimates = quantization.sketch_scores(exact, sketches, scales)
            assert np.allclose(np.diag(estimates), 1, atol=0.05)


def test_the_recall_gate_covers_passages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(LakeSettings(home=tmp_path, embedding_model=SPACE))
    day = days_ago(8)
    rows = hot_rows(day, 150)
    ranges = np.array([0, 9, 5, 12], "<i4").tobytes()
    passages = [row.tobytes() for row in vectors(150, seed=9).astype("<f2")]
    store(lake, with_columns(rows, passages=passages, passage_ranges=[ranges] * 150))
    seen = []

    def add(self: recall.NearestRows, found: np.ndarray, *others: Any) -> None:
        seen.append(len(found))
        plain(self, found, *others)

    plain = recall.NearestRows.add
    monkeypatch.setattr(recall.NearestRows, "add", add)
    [aged] = age_all(lake, day)
    assert isinstance(aged, Aged)
    assert aged.recall_at_10 is not None and aged.recall_at_10 >= 0.97
    assert sum(seen) == 300


def age_all(lake: Lake, day: date) -> list[Any]:
    policy = TierPolicy.of(lake.settings)
    items = aging.due(lake, policy, TODAY)
    assert [item.event_day for item in items] == [day]
    return list(aging.age(lake, items, policy=policy, today=TODAY, moved_at=NOW, run="test"))


def test_rows_without_valid_passages_lose_them_when_they_age() -> None:
    move = Move(TierPolicy.of(LakeSettings()), NOW, "test")
    rows = with_columns(
        hot_rows(DAY, 3),
        passages=[b"odd", None, b"\0" * 768],
        passage_ranges=[b"\0" * 16, b"\0" * 8, b"\0" * 16],
        vector=[b"\0" * 768, b"\0" * 768, None],
    )
    for form in (warm.form, cold.form):
        aged = form(rows.combine_chunks().to_batches()[0], move)
        assert aged["passages"].null_count == aged["passage_scales"].null_count == 3
        assert aged["passage_ranges"].is_valid().to_pylist() == [False, True, False]
