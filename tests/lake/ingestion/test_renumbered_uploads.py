"""Uploads with new ids for the same memories: one memory each, with its day, arrival, vector, tier and links."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion import arrivals
from akosha_assets.lake.ingestion.extraction import protocol, spooled_rows
from akosha_assets.lake.ingestion.inbox import listing
from akosha_assets.lake.ingestion.ledger import replay
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.lifecycle.aging import age_day
from akosha_assets.lake.lifecycle.explain import explain
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle.warm import Move
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.upkeep.verification import verify
from tests import tiny_model
from tests.factories import make_upload

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
OLD = datetime(2026, 3, 1, 12, tzinfo=UTC).replace(tzinfo=None)
Row = dict[str, Any]


class Source:
    """One system, its inbox and the lake that it is ingested into."""

    def __init__(self, settings: LakeSettings):
        self.settings, self.lake, self.ledger = settings, Lake(settings), Ledger.open(settings)

    def send(self, *conversations: Row, minutes: int = 0, **others: list[Row]) -> str:
        upload = make_upload(
            self.settings.home / "inbox",
            "a",
            conversations=list(conversations),
            others=others,
            at=AT + timedelta(minutes=minutes),
        )
        listing.sweep(self.settings, self.ledger, now=datetime.now(UTC), whole=True)
        arrivals.ingest(self.lake, self.ledger, run_id="test")
        return upload.upload_id

    def counts(self, upload: str) -> tuple[int, int, int, int]:
        receipt = self.ledger.receipt(upload)
        assert receipt.state == "ingested", receipt.message
        return receipt.new_rows, receipt.changed_rows, receipt.unchanged_rows, receipt.absent_rows

    def rows(self, address: str, *columns: str) -> list[tuple[Any, ...]]:
        return sorted(tuple(row.values()) for row in self.lake.select(address, list(columns)).to_pylist())

    def aliases(self) -> dict[str, str]:
        return dict(self.rows("ingestion/aliases", "id", "memory_id"))


def memory(id: str, number: int, text: str = "", **columns: Any) -> Row:
    at = OLD + timedelta(days=number)
    return {"id": id, "content": text or f"memory {number}", "timestamp": at, **columns}


@pytest.fixture(params=["in memory", "in files"])
def source(settings: LakeSettings, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Source:
    if request.param == "in files":
        monkeypatch.setattr(protocol, "IN_MEMORY_MAX_BYTES", 0)
        monkeypatch.setattr(spooled_rows, "PART_ROWS", 2)
    return Source(settings)


STORED = ("id", "text", "event_day", "occurred_at", "arrived_at", "upload_id", "vector", "content_hash")


def test_renumbered_memories_stay_as_they_are(tmp_path: Path) -> None:
    source = Source(LakeSettings(home=tmp_path, embedding_model_dir=tiny_model.make(tmp_path / "model")))
    source.send(*[memory(f"A{n}", n) for n in range(4)])
    before = source.rows("lifecycle/hot", *STORED)
    assert all(row[6] is not None for row in before)
    second = source.send(*[memory(f"B{n}", n) for n in range(4)], minutes=1)
    assert source.rows("lifecycle/hot", *STORED) == before
    assert source.counts(second) == (0, 0, 4, 0)
    assert source.aliases() == {f"B{n}": f"A{n}" for n in range(4)}
    assert source.rows("ingestion/absences", "id") == []


def test_new_edited_renumbered_and_removed_memories_of_one_snapshot(source: Source) -> None:
    source.send(*[memory(f"A{n}", n) for n in range(4)])
    second = source.send(
        memory("B0", 0), memory("A1", 1, "edited"), memory("B2", 2, "renumbered and edited"), memory("C", 9), minutes=1
    )
    assert source.counts(second) == (2, 1, 1, 2)
    assert dict(source.rows("lifecycle/hot", "id", "text")) == {
        "A0": "memory 0",
        "A1": "edited",
        "A2": "memory 2",
        "A3": "memory 3",
        "B2": "renumbered and edited",
        "C": "memory 9",
    }
    assert source.rows("ingestion/absences", "id", "is_absent") == [("A2", True), ("A3", True)]
    # The new id is edited: the row of the memory changes, on its day.
    third = source.send(
        memory("B0", 0, "edited too"), memory("A1", 1, "edited"), memory("B2", 2, "renumbered and edited"), minutes=2
    )
    assert source.counts(third) == (0, 1, 2, 1)
    assert ("A0", "edited too", date(2026, 3, 1)) in source.rows("lifecycle/hot", "id", "text", "event_day")
    assert "B0" not in dict(source.rows("lifecycle/hot", "id", "text"))


def test_several_snapshots_of_one_batch_are_followed_from_id_to_id(source: Source) -> None:
    for minutes, name in enumerate("ABC"):
        rows = [memory(f"{name}{n}", n) for n in range(3)]
        make_upload(source.settings.home / "inbox", "a", conversations=rows, at=AT + timedelta(minutes=minutes))
    source.send(*[memory(f"D{n}", n, "edited" if n == 2 else "") for n in range(3)], minutes=3)
    stored = source.rows("lifecycle/hot", "id", "text", "event_day")
    assert stored == [
        ("A0", "memory 0", date(2026, 3, 1)),
        ("A1", "memory 1", date(2026, 3, 2)),
        # It was edited together with its third new id, so it is another memory.
        ("A2", "memory 2", date(2026, 3, 3)),
        ("D2", "edited", date(2026, 3, 3)),
    ]
    assert {source.aliases()[id] for id in ("B0", "C0", "D0")} == {"A0"}
    assert source.rows("ingestion/absences", "id", "is_absent") == [("A2", True)]


def test_links_lead_to_the_memory_under_any_of_its_ids(source: Source) -> None:
    link: Row = {"id": "L1", "from_id": "A0", "to_id": "A1", "link_type": "led_to", "link_origin": "observed"}
    link |= {"evidence": 0.5, "depth": 1, "created_at": OLD, "last_evidence_at": OLD}
    proof = {"id": "P1", "memory_id": "A0", "source_type": "manual", "source_ref": "s", "extracted_at": OLD}
    source.send(memory("A0", 0), memory("A1", 1), causal_links=[link], memory_provenance=[proof])
    links = [link, link | {"id": "L2", "from_id": "B1", "to_id": "B0"}, link | {"id": "L3", "from_id": "B1"}]
    proofs = [proof, proof | {"id": "P2", "memory_id": "B0"}]
    source.send(memory("B0", 0), memory("B1", 1), causal_links=links, memory_provenance=proofs, minutes=1)
    assert source.rows("graph/causal_links", "id", "from_id", "to_id") == [
        ("L1", "A0", "A1"),
        ("L2", "A1", "A0"),
        ("L3", "A1", "A1"),
    ]
    assert source.rows("graph/provenance", "id", "memory_id") == [("P1", "A0"), ("P2", "A0")]


def test_the_tables_may_change_their_names_with_the_ids(source: Source) -> None:
    rows = [memory(f"A{n}", n) for n in range(3)]
    source.send(*rows)
    renamed = [
        {
            "id": f"B{n}",
            "content": f"memory {n}",
            "timestamp": OLD + timedelta(days=n),
            "project": "p",
            "metadata": "{}",
        }
        for n in range(3)
    ]
    second = source.send(conversations=renamed, minutes=1)
    assert source.counts(second) == (0, 0, 3, 0)
    # The new names beside the old ones: still one memory for each text, and a new one.
    third = source.send(memory("C", 8), minutes=2, conversations=renamed)
    assert source.counts(third) == (1, 0, 3, 0)
    assert sorted(id for id, *_ in source.rows("lifecycle/hot", "id")) == ["A0", "A1", "A2", "C"]


def test_an_older_snapshot_sent_again_and_a_replay_change_nothing(source: Source) -> None:
    source.send(*[memory(f"A{n}", n) for n in range(3)])
    source.send(*[memory(f"B{n}", n) for n in range(3)], minutes=1)
    tables = ("lifecycle/hot", "ingestion/aliases", "ingestion/absences")
    before = [source.rows(address, "id", "snapshot_at") for address in tables]
    source.send(*[memory(f"A{n}", n) for n in range(3)], minutes=-5)
    assert [source.rows(address, "id", "snapshot_at") for address in tables] == before
    # The known rows are read from the tables again.
    replay.requeue_day(source.ledger, datetime.now(UTC).date(), now=datetime.now(UTC))
    arrivals.ingest(source.lake, source.ledger, run_id="replay")
    assert [source.rows(address, "id", "snapshot_at") for address in tables] == before


def test_memories_in_warm_and_cold_stay_there(source: Source) -> None:
    long = ". ".join(f"Sentence {n} of a long memory" for n in range(9)) + "."
    source.send(memory("A0", 0, long), memory("A1", 120, long + " In May."), memory("A2", 250))
    policy, today = TierPolicy.of(source.settings), date(2026, 11, 21)
    for number in (0, 120):
        day = (OLD + timedelta(days=number)).date()
        age_day(source.lake, day, move=Move(policy, datetime.now(UTC), "test"), today=today)
    tables = ("lifecycle/hot", "lifecycle/warm", "lifecycle/cold")
    before = [source.rows(address, "id", "event_day", "arrived_at") for address in tables]
    assert [len(rows) for rows in before] == [1, 0, 2] or [len(rows) for rows in before] == [1, 1, 1]
    second = source.send(
        memory("B0", 0, long), memory("B1", 120, long + " In May."), memory("B2", 250), memory("C", 251), minutes=1
    )
    assert source.counts(second) == (1, 0, 3, 0)
    after = [source.rows(address, "id", "event_day", "arrived_at") for address in tables]
    assert [row for row in after[0] if row[0] != "C"] == before[0] and after[1:] == before[1:]


def test_explain_shows_the_ids_and_the_absence_of_a_memory(source: Source) -> None:
    source.send(memory("A0", 0), memory("A1", 1))
    source.send(memory("B0", 0), memory("A1", 1), minutes=1)
    upload = source.send(memory("A1", 1), minutes=2)
    policy = TierPolicy.of(source.settings)
    for id in ("A0", "B0"):
        found = explain(source.lake, source.ledger, "a", "conversation", id, policy=policy, today=AT.date())
        assert (found.id, [alias.id for alias in found.aliases]) == ("A0", ["B0"])
        assert found.absent_since == AT + timedelta(minutes=2)
    other = explain(source.lake, source.ledger, "a", "conversation", "A1", policy=policy, today=AT.date())
    assert (other.aliases, other.absent_since) == ([], None)
    assert source.counts(upload) == (0, 0, 1, 1)


def test_a_verification_knows_the_new_ids(source: Source) -> None:
    source.send(*[memory(f"A{n}", n) for n in range(3)])
    source.send(*[memory(f"B{n}", n) for n in range(3)], minutes=1)
    found = verify(source.lake, source.ledger, now=datetime.now(UTC))
    assert (found.missing, [(one.kind, one.inbox) for one in found.kinds]) == (0, [("conversation", 3)])
