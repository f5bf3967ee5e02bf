"""Limits of one upload: its total days, files and bytes. Other uploads of the batch are not affected."""

import gzip
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from akosha_assets.lake.embeddings import TEXT_MAX_CHARS, Embedder
from akosha_assets.lake.ingestion.uploads import UPLOAD_MAX_FILES
from akosha_assets.lake.settings import LakeSettings
from tests import tiny_model
from tests.lake.ingestion.test_arrivals import AT, Inbox, memory


def on_days(count: int, *, first: int = 0) -> list[dict[str, object]]:
    days = range(first, first + count)
    return [
        {"id": f"D{day}", "content": f"day {day}", "timestamp": AT.replace(tzinfo=None) - timedelta(days=day)}
        for day in days
    ]


def test_only_the_upload_with_rows_on_too_many_days_is_quarantined(tmp_path: Path) -> None:
    inbox = Inbox(LakeSettings(home=tmp_path, workers=1, upload_max_event_days=20))
    hostile, sound = inbox.send(*on_days(21), system="mallory"), inbox.send(*on_days(20), system="innocent")
    inbox.ingest()
    receipt = inbox.ledger.receipt(hostile)
    assert (receipt.state, receipt.reason) == ("quarantined", "too_many_event_days")
    assert "fall on 21 days from 2026-10-31 to 2026-11-20; expected at most 20" in str(receipt.message)
    assert inbox.counts(sound)[0] == 20


def test_uploads_beyond_the_days_of_a_batch_are_ingested_in_the_next_one(tmp_path: Path) -> None:
    inbox = Inbox(LakeSettings(home=tmp_path, workers=1, upload_max_event_days=20))
    uploads = [inbox.send(*on_days(15, first=15 * number), system=f"s{number}") for number in range(4)]
    results = inbox.ingest()
    assert [inbox.counts(upload)[0] for upload in uploads] == [15] * 4
    assert {inbox.ledger.receipt(upload).attempts for upload in uploads} == {0}
    assert max(len(result.event_days) for result in results) <= 20


def test_an_upload_with_more_rows_than_estimated_waits_for_the_next_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("akosha_assets.lake.ingestion.batch_reading.BATCH_ARROW_BYTES", 40_000)
    monkeypatch.setattr("akosha_assets.lake.ingestion.batch_reading.ARROW_TO_COMPRESSED", 0)
    inbox = Inbox(LakeSettings(home=tmp_path, workers=1))
    uploads = [inbox.send(*(memory(row, "x" * 600) for row in range(50)), system=f"s{number}") for number in range(6)]
    results = inbox.ingest()
    assert [inbox.counts(upload)[0] for upload in uploads] == [50] * 6
    assert {inbox.ledger.receipt(upload).attempts for upload in uploads} == {0}
    assert [result.rows["lifecycle/hot"] for result in results] == [50] * 6


def test_a_manifest_may_list_as_many_files_as_can_be_read(inbox_of_files: Inbox) -> None:
    upload = inbox_of_files.settings.home / "inbox/systems/a/uploads/20261120_120000_a"
    for count, expected in ((UPLOAD_MAX_FILES + 1, "manifest_invalid"), (UPLOAD_MAX_FILES, None)):
        folder = upload.with_name(f"20261120_1200{count:02d}_a")
        folder.mkdir(parents=True)
        names = [f"f{number}.json" for number in range(count)]
        for number, name in enumerate(names):
            rows = {
                "conversations": [{"id": f"{count}-{number}", "content": "text", "timestamp": "2026-11-20T10:00:00"}]
            }
            (folder / name).write_bytes(gzip.compress(json.dumps(rows).encode()))
        (folder / "manifest.json").write_text(json.dumps({"files": [{"name": name} for name in names]}))
        inbox_of_files.ingest()
        receipt = inbox_of_files.ledger.receipt(folder.name)
        assert receipt.reason == expected, receipt.message
    assert receipt.state == "ingested"


@pytest.fixture
def inbox_of_files(settings: LakeSettings) -> Inbox:
    return Inbox(settings)


def test_the_total_size_of_the_files_of_an_upload_is_limited(tmp_path: Path) -> None:
    noise = os.urandom(300_000)
    for setting, limit, reason, content in (
        ("upload_max_bytes", 700_000, "file_too_large", noise),
        ("upload_max_raw_bytes", 4_000_000, "file_too_large_raw", gzip.compress(bytes(1_500_000))),
    ):
        inbox = Inbox(LakeSettings(home=tmp_path / setting, workers=1, **{setting: limit}))  # type: ignore[arg-type]
        folder = inbox.settings.home / "inbox/systems/mallory/uploads/20261120_120000_mallory"
        folder.mkdir(parents=True)
        for name in ("a", "b", "c"):
            (folder / f"{name}.duckdb").write_bytes(content)
        (folder / "manifest.json").write_text(json.dumps({"files": ["a.duckdb", "b.duckdb", "c.duckdb"]}))
        sound = inbox.send(memory(1), system="innocent")
        inbox.ingest()
        assert inbox.ledger.receipt(folder.name).reason == reason
        assert inbox.counts(sound)[0] == 1


def test_a_long_text_is_truncated_before_tokenization_and_a_short_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = Embedder.load(LakeSettings(home=tmp_path, embedding_model_dir=tiny_model.make(tmp_path / "model")))
    lengths: list[int] = []
    embed = embedder._model.embed  # type: ignore[attr-defined]

    def embed_and_measure(texts: list[str], **options: Any) -> Any:
        lengths.extend(map(len, texts))
        return embed(texts, **options)

    monkeypatch.setattr(embedder._model, "embed", embed_and_measure)
    long = " ".join(["deadlock"] * TEXT_MAX_CHARS)
    vectors = embedder.embed([long, long[:TEXT_MAX_CHARS], "a short text"])
    assert max(lengths) == TEXT_MAX_CHARS
    assert np.array_equal(vectors[0], vectors[1])
    assert np.array_equal(vectors[2], embedder.embed(["a short text"])[0])
