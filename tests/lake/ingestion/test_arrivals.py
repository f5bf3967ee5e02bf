"""Snapshots become differences: what is stored, what is left alone, and what a receipt says of it."""

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
    """An inbox, a lake and its ledger, and a shorthand for sending and taking in."""

    def __init__(self, settings: LakeSettings):
        self.settings, self.lake, self.ledger = settings, Lake(settings), Ledger.open(settings)

    def send(self, *rows: dict[str, object], minutes: int = 0, system: str = "a") -> str:
        return make_upload(
            self.settings.home / "inbox", system, reflections=list(rows), at=AT + timedelta(minutes=minutes)
        ).upload_id

    def take_in(self) -> list[arrivals.BatchResult]:
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


@pytest.fixture(params=["held", "spooled"])
def inbox(settings: LakeSettings, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Inbox:
    """The same outcome is expected of rows that are held in memory and of those that are stored in several parts."""
    if request.param == "spooled":
        monkeypatch.setattr(protocol, "IN_MEMORY_MAX_BYTES", 0)
        monkeypatch.setattr(spooled_rows, "PART_ROWS", 2)
    return Inbox(settings)


def test_only_changed_rows_of_a_second_snapshot_are_stored(inbox: Inbox) -> None:
    first = inbox.send(memory(1), memory(2))
    inbox.take_in()
    second = inbox.send(memory(1), memory(2, "edited"), memory(3), minutes=1)
    inbox.take_in()
    assert (inbox.counts(first), inbox.counts(second)) == ((2, 0, 0, 0), (1, 1, 1, 0))
    assert inbox.texts() == {"R1": "memory 1", "R2": "edited", "R3": "memory 3"}


def test_several_snapshots_of_a_system_in_one_batch_end_in_the_newest_form(inbox: Inbox) -> None:
    uploads = [inbox.send(memory(1, text), minutes=minute) for minute, text in enumerate(("first", "second", "first"))]
    assert len(inbox.take_in()) == 1
    assert inbox.texts() == {"R1": "first"}
    assert sum(inbox.counts(upload)[0] for upload in uploads) == 1


def test_a_late_older_snapshot_never_overwrites_newer_rows(inbox: Inbox) -> None:
    inbox.send(memory(1, "newer"), minutes=5)
    inbox.take_in()
    late = inbox.send(memory(1, "older"), memory(2, "only there"), minutes=1)
    inbox.take_in()
    assert inbox.texts() == {"R1": "newer", "R2": "only there"}
    assert inbox.counts(late)[:2] == (1, 0)


def test_a_file_compressed_anew_is_skipped_and_still_proves_its_rows(inbox: Inbox) -> None:
    first = inbox.send(memory(1, "kept"), minutes=0)
    inbox.take_in()
    folder = inbox.settings.home / "inbox/systems/a/uploads"
    again = folder / first.replace("120000", "120500")
    again.mkdir()
    for path in sorted((folder / first).iterdir(), reverse=True):
        data = path.read_bytes()
        if path.name != "manifest.json":
            # Another time in the gzip header, the same content.
            data = data[:4] + b"\x01\x02\x03\x04" + data[8:]
            assert gzip.decompress(data) == gzip.decompress(path.read_bytes())
        (again / path.name).write_bytes(data)
    inbox.take_in()
    assert inbox.ledger.receipt(again.name).counts == {"skipped_files": 2}
    late = inbox.send(memory(1, "older than what was proven"), minutes=2)
    inbox.take_in()
    assert inbox.texts() == {"R1": "kept"}
    assert inbox.counts(late)[:2] == (0, 0)


def test_a_row_missing_from_a_newer_snapshot_is_marked_and_kept_until_it_is_back(inbox: Inbox) -> None:
    inbox.send(memory(1), memory(2))
    inbox.take_in()
    without = inbox.send(memory(1), minutes=1)
    inbox.take_in()
    assert inbox.counts(without)[3] == 1
    inbox.send(memory(1), memory(2), minutes=2)
    inbox.take_in()
    assert inbox.absent() == [("R2", True), ("R2", False)]
    assert inbox.texts() == {"R1": "memory 1", "R2": "memory 2"}


def test_an_empty_snapshot_marks_nothing_as_absent(inbox: Inbox) -> None:
    inbox.send(memory(1))
    inbox.take_in()
    empty = inbox.send(minutes=1)
    inbox.take_in()
    assert (inbox.counts(empty), inbox.absent()) == ((0, 0, 0, 0), [])


def test_the_same_ids_on_two_systems_are_two_memories(inbox: Inbox) -> None:
    inbox.send(memory(1, "of a"), system="a")
    inbox.send(memory(1, "of b"), system="b")
    inbox.take_in()
    assert (inbox.texts("a"), inbox.texts("b")) == ({"R1": "of a"}, {"R1": "of b"})


def test_bad_uploads_end_in_quarantine_with_a_reason_and_leave_the_others_alone(inbox: Inbox) -> None:
    folder = inbox.settings.home / "inbox/systems"
    good = inbox.send(memory(1), system="good")
    spoilt = {}
    for name in ("truncated", "not-json", "missing", "linked", "escaping"):
        spoilt[name] = inbox.send(memory(1), system=name)
        at = folder / name / "uploads" / spoilt[name]
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
    inbox.take_in()
    reasons = {name: inbox.ledger.receipt(upload).reason for name, upload in spoilt.items()}
    assert reasons == {
        "truncated": "gzip_damaged",
        "not-json": "manifest_not_json",
        "missing": "file_missing",
        "linked": "file_not_regular",
        "escaping": "manifest_invalid",
    }
    assert inbox.counts(good) == (1, 0, 0, 0)
    assert "hunter2" not in str(inbox.ledger.receipt(spoilt["not-json"]).sample)


def test_a_file_larger_than_allowed_is_refused_while_it_is_fetched(tmp_path: Path) -> None:
    inbox = Inbox(LakeSettings(home=tmp_path, workers=1, upload_max_bytes=1000))
    upload = inbox.send(memory(1))
    inbox.take_in()
    assert inbox.ledger.receipt(upload).reason == "file_too_large"


def test_a_replayed_day_brings_lost_rows_back_and_is_harmless_twice(inbox: Inbox) -> None:
    upload = inbox.send(memory(1), memory(2))
    inbox.take_in()
    inbox.lake.create("lifecycle/hot").delete("id = 'R1'")
    day = inbox.ledger.receipt(upload).arrival_day
    for _ in range(2):
        assert replay.requeue_day(inbox.ledger, day, now=datetime.now(UTC)) == replay.Replayed(waiting=1, removed=0)
        arrivals.ingest(inbox.lake, inbox.ledger, run_id="replay", arrival_day=day)
        assert inbox.texts() == {"R1": "memory 1", "R2": "memory 2"}


def test_a_replay_does_not_change_what_a_receipt_says_of_the_first_ingestion(inbox: Inbox) -> None:
    uploads = [inbox.send(memory(1), memory(2))]
    inbox.take_in()
    uploads.append(inbox.send(memory(1), memory(2, "changed"), minutes=1))
    inbox.take_in()
    hot = inbox.ledger.receipt(uploads[1]).hot_version
    recorded = record_searchable(inbox.ledger, lambda version: AT if version <= hot else None, hot)
    assert {each.upload_id for each in recorded} == set(uploads)
    before = [history_of(inbox, upload) for upload in uploads]
    assert [(receipt["new_rows"], receipt["changed_rows"]) for receipt in before] == [(2, 0), (0, 2)]
    inbox.lake.create("lifecycle/hot").delete("id = 'R1'")
    replay.requeue_day(inbox.ledger, inbox.ledger.receipt(uploads[0]).arrival_day, now=datetime.now(UTC))
    arrivals.ingest(inbox.lake, inbox.ledger, run_id="replay")
    assert inbox.texts() == {"R1": "memory 1", "R2": "changed"}
    assert record_searchable(inbox.ledger, lambda _: datetime.now(UTC), 1 << 40) == []
    assert [history_of(inbox, upload) for upload in uploads] == before


def history_of(inbox: Inbox, upload: str) -> dict[str, Any]:
    """The receipt without the columns of the latest attempt."""
    latest = ("requeued_at", "batch_id", "claimed_at", "run_id")
    receipt = asdict(inbox.ledger.receipt(upload))
    return {name: value for name, value in receipt.items() if name not in latest}


def test_a_run_asked_to_stop_hands_back_what_it_has_not_read(inbox: Inbox) -> None:
    uploads = [inbox.send(memory(1), system=f"s{number}") for number in range(4)]
    listing.sweep(inbox.settings, inbox.ledger, now=datetime.now(UTC), whole=True)
    fetched: list[str] = []

    def on_step(step: str) -> None:
        if step == "fetched":
            fetched.append(step)

    arrivals.ingest(inbox.lake, inbox.ledger, run_id="drained", stop=lambda: len(fetched) >= 2, on_step=on_step)
    states = sorted(inbox.ledger.receipt(upload).state for upload in uploads)
    assert states.count(UploadState.WAITING) >= 2 and set(states) == {"ingested", "waiting"}
    inbox.take_in()
    assert {inbox.ledger.receipt(upload).state for upload in uploads} == {"ingested"}


def test_rows_get_vectors_of_the_model_that_is_there(tmp_path: Path) -> None:
    inbox = Inbox(LakeSettings(home=tmp_path, embedding_model_dir=tiny_model.make(tmp_path / "model")))
    inbox.send(memory(1, "postgres lock timeout"))
    inbox.take_in()
    (row,) = inbox.lake.select("lifecycle/hot", ["vector", "space"]).to_pylist()
    assert (len(row["vector"]), row["space"]) == (768, "sentence-transformers/all-MiniLM-L6-v2")


def test_a_changed_row_keeps_the_vector_of_its_unchanged_text(tmp_path: Path) -> None:
    model = tiny_model.make(tmp_path / "model")
    inbox = Inbox(LakeSettings(home=tmp_path / "home", workers=1, embedding_model_dir=model))
    inbox.send(memory(1, "postgres lock"), memory(2, "redis eviction"))
    inbox.take_in()
    # The model is gone when the changed rows come.
    inbox.settings = LakeSettings(home=tmp_path / "home", workers=1)
    inbox.ledger.settings = inbox.settings
    inbox.send({**memory(1, "postgres lock"), "importance_score": 0.9}, memory(2, "redis memory limit"), minutes=1)
    inbox.take_in()
    rows = inbox.lake.select("lifecycle/hot", ["id", "importance", "space"]).sort_by("id").to_pylist()
    assert [(row["space"] is None, round(row["importance"], 1)) for row in rows] == [(False, 0.9), (True, 0.5)]


def test_rows_without_a_model_wait_for_their_vectors(inbox: Inbox) -> None:
    inbox.send(memory(1))
    inbox.take_in()
    assert inbox.lake.select("lifecycle/hot", ["vector", "space"]).to_pylist() == [{"vector": None, "space": None}]
