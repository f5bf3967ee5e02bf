"""Ingestion of snapshots: which rows are stored, which are not, and what the receipts say."""

import gzip
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion import arrivals
from akosha_assets.lake.ingestion.extraction import protocol, spooled_rows
from akosha_assets.lake.ingestion.inbox import listing
from akosha_assets.lake.ingestion.ledger import replay
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.searchable import record_searchable
from akosha_assets.lake.ingestion.ledger.states import UploadState
from akosha_assets.lake.settings import LakeSettings
from tests import tiny_model
from tests.factories import make_upload

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
FIRST = [{"id": f"R{number}", "content": f"memory {number}"} for number in range(4)]


def memory(number: int, text: str = "") -> dict[str, object]:
    return {"id": f"R{number}", "content": text or f"memory {number}"}


class Inbox:
    """An inbox, a lake and its ledger, with methods to send and ingest uploads."""

    def __init__(self, settings: LakeSettings):
        self.settings, self.lake, self.ledger = settings, Lake(settings), Ledger.open(settings)

    def send(self, *rows: dict[str, object], minutes: int = 0, system: str = "a") -> str:
        return make_upload(
            self.settings.home / "inbox", system, reflections=list(rows), at=AT + timedelta(minutes=minutes)
        ).upload_id

    def ingest(self) -> list[arrivals.BatchResult]:
        listing.sweep(self.settings, self.ledger, now=datetime.now(UTC), whole=True)
        return arrivals.ingest(self.lake, self.ledger, run_id="test")

    def counts(self, upload: str) -> tuple[int, int, int, int]:
        receipt = self.ledger.receipt(upload)
        assert receipt.state == "ingested", receipt.message
        return receipt.new_rows, receipt.changed_rows, receipt.unchanged_rows, receipt.absent_rows

    def texts(self, system: str = "a") -> dict[str, str]:
        rows = self.lake.select("lifecycle/hot", ["id", "text"], f"system_id = '{system}'").to_pylist()
        assert len({row["id"] for row in rows}) == len(rows), "a row is stored twice"
        return {row["id"]: row["text"] for row in rows}

    def absent(self) -> list[tuple[str, bool]]:
        rows = (
            self.lake.select("ingestion/absences", ["id", "is_absent", "snapshot_at"])
            .sort_by("snapshot_at")
            .to_pylist()
        )
        return [(row["id"], row["is_absent"]) for row in rows]


@pytest.fixture(params=["in memory", "spooled"])
def inbox(settings: LakeSettings, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Inbox:
    """An inbox whose rows are ingested in memory, and one whose rows are spooled and committed in several parts."""
    if request.param == "spooled":
        monkeypatch.setattr(protocol, "IN_MEMORY_MAX_BYTES", 0)
        monkeypatch.setattr(spooled_rows, "PART_ROWS", 2)
    return Inbox(settings)


def test_only_changed_rows_of_a_second_snapshot_are_stored(inbox: Inbox) -> None:
    first = inbox.send(memory(1), memory(2))
    inbox.ingest()
    second = inbox.send(memory(1), memory(2, "edited"), memory(3), minutes=1)
    inbox.ingest()
    assert (inbox.counts(first), inbox.counts(second)) == ((2, 0, 0, 0), (1, 1, 1, 0))
    assert inbox.texts() == {"R1": "memory 1", "R2": "edited", "R3": "memory 3"}


def test_several_snapshots_of_a_system_in_one_batch_store_the_newest_version(inbox: Inbox) -> None:
    uploads = [inbox.send(memory(1, text), minutes=minute) for minute, text in enumerate(("first", "second", "first"))]
    assert len(inbox.ingest()) == 1
    assert inbox.texts() == {"R1": "first"}
    assert sum(inbox.counts(upload)[0] for upload in uploads) == 1


def test_a_late_older_snapshot_never_overwrites_newer_rows(inbox: Inbox) -> None:
    inbox.send(memory(1, "newer"), minutes=5)
    inbox.ingest()
    late = inbox.send(memory(1, "older"), memory(2, "only there"), minutes=1)
    inbox.ingest()
    assert inbox.texts() == {"R1": "newer", "R2": "only there"}
    assert inbox.counts(late)[:2] == (1, 0)


def test_an_unchanged_file_that_was_compressed_again_is_skipped_and_confirms_its_rows(inbox: Inbox) -> None:
    first = inbox.send(memory(1, "unchanged"), minutes=0)
    inbox.ingest()
    folder = inbox.settings.home / "inbox/systems/a/uploads"
    again = folder / first.replace("120000", "120500")
    again.mkdir()
    for path in sorted((folder / first).iterdir(), reverse=True):
        data = path.read_bytes()
        if path.name != "manifest.json":
            # A different time in the gzip header, the same content.
            data = data[:4] + b"\x01\x02\x03\x04" + data[8:]
            assert gzip.decompress(data) == gzip.decompress(path.read_bytes())
        (again / path.name).write_bytes(data)
    inbox.ingest()
    assert inbox.ledger.receipt(again.name).counts == {"skipped_files": 2}
    late = inbox.send(memory(1, "older than the confirmed row"), minutes=2)
    inbox.ingest()
    assert inbox.texts() == {"R1": "unchanged"}
    assert inbox.counts(late)[:2] == (0, 0)


def test_a_row_missing_in_a_newer_snapshot_is_marked_absent_until_it_is_back(inbox: Inbox) -> None:
    inbox.send(memory(1), memory(2))
    inbox.ingest()
    without = inbox.send(memory(1), minutes=1)
    inbox.ingest()
    assert inbox.counts(without)[3] == 1
    inbox.send(memory(1), memory(2), minutes=2)
    inbox.ingest()
    assert inbox.absent() == [("R2", True), ("R2", False)]
    assert inbox.texts() == {"R1": "memory 1", "R2": "memory 2"}


def test_an_empty_snapshot_marks_nothing_as_absent(inbox: Inbox) -> None:
    inbox.send(memory(1))
    inbox.ingest()
    empty = inbox.send(minutes=1)
    inbox.ingest()
    assert (inbox.counts(empty), inbox.absent()) == ((0, 0, 0, 0), [])


def test_the_same_ids_on_two_systems_are_two_memories(inbox: Inbox) -> None:
    inbox.send(memory(1, "of a"), system="a")
    inbox.send(memory(1, "of b"), system="b")
    inbox.ingest()
    assert (inbox.texts("a"), inbox.texts("b")) == ({"R1": "of a"}, {"R1": "of b"})


def test_bad_uploads_are_quarantined_with_a_reason_and_do_not_affect_others(inbox: Inbox) -> None:
    folder = inbox.settings.home / "inbox/systems"
    good = inbox.send(memory(1), system="good")
    bad = {}
    for name in ("truncated", "not-json", "missing", "linked", "escaping"):
        bad[name] = inbox.send(memory(1), system=name)
        at = folder / name / "uploads" / bad[name]
        if name == "truncated":
            (at / "reflection.duckdb").write_bytes((at / "reflection.duckdb").read_bytes()[:2000])
        elif name == "not-json":
            (at / "manifest.json").write_text("{'files': password=hunter2")
        elif name == "missing":
            (at / "knowledge_graph.duckdb").unlink()
        elif name == "linked":
            (at / "reflection.duckdb").unlink()
            (at / "reflection.duckdb").symlink_to("/etc/passwd")
        else:
            (at / "manifest.json").write_text('{"files": [{"name": "../../good/manifest.json"}]}')
    inbox.ingest()
    reasons = {name: inbox.ledger.receipt(upload).reason for name, upload in bad.items()}
    assert reasons == {
        "truncated": "gzip_damaged",
        "not-json": "manifest_not_json",
        "missing": "file_missing",
        "linked": "file_not_regular",
        "escaping": "manifest_invalid",
    }
    assert inbox.counts(good) == (1, 0, 0, 0)
    assert "hunter2" not in str(inbox.ledger.receipt(bad["not-json"]).sample)


def test_json_in_another_encoding_with_a_lone_surrogate_is_ingested_and_counted(inbox: Inbox) -> None:
    folder = inbox.settings.home / "inbox/systems/a/20261120_120000_a"
    folder.mkdir(parents=True)
    rows = '[{"id": "R1", "content": "half a pair: \\ud83d", "timestamp": "2026-11-20T10:00:00Z"}, null]'
    (folder / "memories.json").write_bytes(f'{{"conversations": {rows}}}'.encode("utf-16"))
    (folder / "manifest.json").write_bytes(b"\xef\xbb\xbf{}")
    inbox.ingest()
    receipt = inbox.ledger.receipt("20261120_120000_a")
    assert (receipt.state, inbox.texts()) == ("ingested", {"R1": "half a pair: \ufffd"})
    assert receipt.counts is not None
    assert {"row_not_object": 1, "text_not_utf8": 1}.items() <= receipt.counts["flaws"].items()


def test_a_file_larger_than_allowed_is_rejected_while_it_is_fetched(tmp_path: Path) -> None:
    inbox = Inbox(LakeSettings(home=tmp_path, workers=1, upload_max_bytes=1000))
    upload = inbox.send(memory(1))
    inbox.ingest()
    assert inbox.ledger.receipt(upload).reason == "file_too_large"


def test_a_replay_restores_lost_rows_and_is_idempotent(inbox: Inbox) -> None:
    upload = inbox.send(memory(1), memory(2))
    inbox.ingest()
    inbox.lake.create("lifecycle/hot").delete("id = 'R1'")
    day = inbox.ledger.receipt(upload).arrival_day
    for _ in range(2):
        assert replay.requeue_day(inbox.ledger, day, now=datetime.now(UTC)) == replay.Replayed(waiting=1, removed=0)
        arrivals.ingest(inbox.lake, inbox.ledger, run_id="replay", arrival_day=day)
        assert inbox.texts() == {"R1": "memory 1", "R2": "memory 2"}


def test_a_replay_does_not_change_the_counts_of_the_first_ingestion(inbox: Inbox) -> None:
    uploads = [inbox.send(memory(1), memory(2))]
    inbox.ingest()
    uploads.append(inbox.send(memory(1), memory(2, "changed"), minutes=1))
    inbox.ingest()
    hot = inbox.ledger.receipt(uploads[1]).hot_version
    recorded = record_searchable(inbox.ledger, lambda version: AT if version <= hot else None, hot)
    assert {each.upload_id for each in recorded} == set(uploads)
    before = [first_ingestion(inbox, upload) for upload in uploads]
    assert [(receipt["new_rows"], receipt["changed_rows"]) for receipt in before] == [(2, 0), (0, 2)]
    inbox.lake.create("lifecycle/hot").delete("id = 'R1'")
    replay.requeue_day(inbox.ledger, inbox.ledger.receipt(uploads[0]).arrival_day, now=datetime.now(UTC))
    arrivals.ingest(inbox.lake, inbox.ledger, run_id="replay")
    assert inbox.texts() == {"R1": "memory 1", "R2": "changed"}
    assert record_searchable(inbox.ledger, lambda _: datetime.now(UTC), 1 << 40) == []
    assert [first_ingestion(inbox, upload) for upload in uploads] == before


def first_ingestion(inbox: Inbox, upload: str) -> dict[str, Any]:
    """Returns the receipt without the columns of the latest attempt."""
    latest = ("requeued_at", "batch_id", "claimed_at", "run_id")
    receipt = asdict(inbox.ledger.receipt(upload))
    return {name: value for name, value in receipt.items() if name not in latest}


def test_a_stopped_run_releases_unread_uploads(inbox: Inbox) -> None:
    uploads = [inbox.send(memory(1), system=f"s{number}") for number in range(4)]
    listing.sweep(inbox.settings, inbox.ledger, now=datetime.now(UTC), whole=True)
    fetched: list[str] = []

    def on_step(step: str) -> None:
        if step == "fetched":
            fetched.append(step)

    arrivals.ingest(inbox.lake, inbox.ledger, run_id="drained", stop=lambda: len(fetched) >= 2, on_step=on_step)
    states = sorted(inbox.ledger.receipt(upload).state for upload in uploads)
    assert states.count(UploadState.WAITING) >= 2 and set(states) == {"ingested", "waiting"}
    inbox.ingest()
    assert {inbox.ledger.receipt(upload).state for upload in uploads} == {"ingested"}


def test_rows_get_vectors_of_the_installed_model(tmp_path: Path) -> None:
    inbox = Inbox(LakeSettings(home=tmp_path, embedding_model_dir=tiny_model.make(tmp_path / "model")))
    inbox.send(memory(1, "postgres lock timeout"))
    inbox.ingest()
    (row,) = inbox.lake.select("lifecycle/hot", ["vector", "space"]).to_pylist()
    assert (len(row["vector"]), row["space"]) == (768, "sentence-transformers/all-MiniLM-L6-v2")


def test_a_changed_row_keeps_the_vector_of_its_unchanged_text(tmp_path: Path) -> None:
    model = tiny_model.make(tmp_path / "model")
    inbox = Inbox(LakeSettings(home=tmp_path / "home", workers=1, embedding_model_dir=model))
    inbox.send(memory(1, "postgres lock"), memory(2, "redis eviction"))
    inbox.ingest()
    # The model is not available when the changed rows are ingested.
    inbox.settings = LakeSettings(home=tmp_path / "home", workers=1)
    inbox.ledger.settings = inbox.settings
    inbox.send({**memory(1, "postgres lock"), "importance_score": 0.9}, memory(2, "redis memory limit"), minutes=1)
    inbox.ingest()
    rows = inbox.lake.select("lifecycle/hot", ["id", "importance", "space"]).sort_by("id").to_pylist()
    assert [(row["space"] is None, round(row["importance"], 1)) for row in rows] == [(False, 0.9), (True, 0.5)]


def test_rows_are_stored_without_vectors_if_there_is_no_model(inbox: Inbox) -> None:
    inbox.send(memory(1))
    inbox.ingest()
    assert inbox.lake.select("lifecycle/hot", ["vector", "space"]).to_pylist() == [{"vector": None, "space": None}]
