"""Objects of an upload come in any order, in parts and again: their last state is ingested, without a redrive."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion import arrivals, backlog
from akosha_assets.lake.ingestion.inbox import listing
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.rows import UploadRow
from akosha_assets.lake.ingestion.ledger.schema import uploads
from akosha_assets.lake.settings import LakeSettings
from tests.factories import make_upload

AT = datetime(2026, 11, 20)  # noqa: DTZ001 - as the source stores it
NAMES = ("reflection.duckdb", "knowledge_graph.duckdb", "manifest.json")


class Inbox:
    """An inbox whose objects the tests write themselves."""

    def __init__(self, home: Path, grace_seconds: int = 900):
        self.settings = LakeSettings(home=home, workers=1, incomplete_grace_seconds=grace_seconds)
        self.lake, self.ledger = Lake(self.settings), Ledger.open(self.settings)

    def made(self, system: str, *rows: str) -> tuple[Path, dict[str, bytes]]:
        """An upload as Session-Buddy makes it: its folder in this inbox, and its files, which are elsewhere."""
        entity = {"id": "E1", "name": "redis", "entity_type": "library", "created_at": AT}
        sent = make_upload(
            self.settings.home / "elsewhere",
            system,
            reflections=[{"id": f"R{number}", "content": text} for number, text in enumerate(rows)],
            others={"kg_entities": [entity]},
        )
        source = self.settings.home / "elsewhere" / sent.prefix
        return self.settings.home / "inbox" / sent.prefix, {name: (source / name).read_bytes() for name in NAMES}

    def ingest(self) -> None:
        listing.sweep(self.settings, self.ledger, now=datetime.now(UTC), whole=True)
        arrivals.ingest(self.lake, self.ledger, run_id="test")

    def rows(self) -> list[UploadRow]:
        return self.ledger.uploads().uploads

    def texts(self, system: str) -> list[str]:
        return sorted(self.lake.select("lifecycle/hot", ["text"], f"system_id = '{system}'")["text"].to_pylist())

    def end_pauses(self) -> None:
        with self.ledger.write() as connection:
            connection.execute(sa.update(uploads).values(not_before=datetime.now(UTC) - timedelta(seconds=1)))


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    opened = Inbox(tmp_path)
    yield opened
    opened.ledger.close()


def put(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # In place, as a tool does that does not know about renaming.
    (folder / name).write_bytes(content)


@pytest.mark.parametrize("seed", range(4))
def test_in_any_order_and_in_parts_each_upload_is_ingested_once(inbox: Inbox, seed: int) -> None:
    rng = random.Random(seed)
    made = {f"laptop-{number}": inbox.made(f"laptop-{number}", f"text {number}") for number in range(4)}
    steps = {}
    for system, (_, files) in made.items():
        order = rng.sample(NAMES, 3)
        steps[system] = [
            (name, content)
            for name in order
            for content in ([files[name][: rng.randrange(len(files[name]))]] if rng.random() < 0.5 else [])
            + [files[name]]
        ]
    while any(steps.values()):
        for system, remaining in steps.items():
            if remaining and rng.random() < 0.7:
                put(made[system][0], *remaining.pop(0))
        inbox.ingest()
    assert {(row.system_id, row.state, row.reason) for row in inbox.rows()} == {
        (system, "ingested", None) for system in made
    }
    for number, system in enumerate(made):
        assert inbox.texts(system) == [f"text {number}"]
    assert inbox.lake.select("graph/entities", ["system_id"]).num_rows == 4
    assert backlog.measure(inbox.ledger, now=datetime.now(UTC)).waiting == 0


def test_a_missing_file_is_waited_for_without_an_attempt_and_without_a_backlog(inbox: Inbox) -> None:
    folder, files = inbox.made("a", "one")
    put(folder, "manifest.json", files["manifest.json"])
    put(folder, "reflection.duckdb", files["reflection.duckdb"])
    inbox.ingest()
    (row,) = inbox.rows()
    assert (row.state, row.reason, row.attempts) == ("arriving", "file_missing", 0)
    assert "knowledge_graph.duckdb does not exist" in str(row.message)
    measured = backlog.measure(inbox.ledger, now=datetime.now(UTC))
    assert (measured.arriving, measured.waiting, measured.quarantined) == (1, 0, 0)
    assert backlog.is_caught_up(measured, inbox.settings)
    # No listing shows the file, as in a bucket whose listings are behind: a later attempt reads it.
    put(folder, "knowledge_graph.duckdb", files["knowledge_graph.duckdb"])
    inbox.end_pauses()
    arrivals.ingest(inbox.lake, inbox.ledger, run_id="test")
    assert [row.state for row in inbox.rows()] == ["ingested"]
    assert backlog.measure(inbox.ledger, now=datetime.now(UTC)).oldest_waiting_seconds == 0


def test_after_the_grace_period_it_is_quarantined_and_still_comes_back_by_itself(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, grace_seconds=0)
    folder, files = inbox.made("a", "one")
    put(folder, "manifest.json", files["manifest.json"])
    inbox.ingest()
    assert [(row.state, row.reason) for row in inbox.rows()] == [("quarantined", "file_missing")]
    inbox.ingest()
    assert [row.state for row in inbox.rows()] == ["quarantined"], "nothing changed"
    for name in NAMES[:2]:
        put(folder, name, files[name])
    inbox.ingest()
    assert [(row.state, row.reason, row.message) for row in inbox.rows()] == [("ingested", None, None)]
    inbox.ledger.close()


@pytest.mark.parametrize("name", NAMES[:2])
def test_a_file_that_grows_while_it_is_read_is_arriving(inbox: Inbox, name: str) -> None:
    folder, files = inbox.made("a", "one")
    for each in NAMES:
        put(folder, each, files[each][: 40 if each == name else None])
    listing.sweep(inbox.settings, inbox.ledger, now=datetime.now(UTC), whole=True)
    put(folder, name, files[name][:80])
    arrivals.ingest(inbox.lake, inbox.ledger, run_id="test")
    assert [row.state for row in inbox.rows()] == ["arriving"]
    inbox.ingest()
    assert [row.state for row in inbox.rows()] == ["quarantined"], "nobody writes any more"
    put(folder, name, files[name])
    inbox.ingest()
    assert [row.state for row in inbox.rows()] == ["ingested"] and inbox.texts("a") == ["one"]


def test_a_bare_database_and_a_manifest_in_two_writes_are_one_upload_each(inbox: Inbox) -> None:
    folder, files = inbox.made("a", "one")
    bare = inbox.settings.home / "inbox/systems/b"
    _, other = inbox.made("b", "two")
    for cut in (100, None):
        put(bare, "memory.db", other["reflection.duckdb"][:cut])
        for name in NAMES:
            put(folder, name, files[name][: cut if name == "manifest.json" else None])
        inbox.ingest()
        if cut:
            assert {row.reason for row in inbox.rows()} == {"gzip_damaged", "manifest_not_json"}
    assert sorted((row.system_id, row.state) for row in inbox.rows()) == [("a", "ingested"), ("b", "ingested")]
    assert (inbox.texts("a"), inbox.texts("b")) == (["one"], ["two"])


def test_a_database_that_is_written_again_is_a_new_revision_of_its_upload(inbox: Inbox) -> None:
    folder, files = inbox.made("a", "one", "two")
    for name in NAMES:
        put(folder, name, files[name])
    inbox.ingest()
    for texts in (["one", "two changed", "three"], ["one", "two changed again", "three"]):
        _, later = inbox.made("a", *texts)
        put(folder, "reflection.duckdb", later["reflection.duckdb"])
        for _ in range(2):
            inbox.ingest()
        assert inbox.texts("a") == sorted(texts)
    # With the entity of the other database, which is not read again.
    assert [(row.state, row.new_rows) for row in inbox.rows()] == [("ingested", 0), ("ingested", 1), ("ingested", 3)]
    assert all(row.changed_rows for row in inbox.rows()[:2])


def test_a_ledger_of_an_earlier_version_ingests_nothing_twice(inbox: Inbox) -> None:
    folder, files = inbox.made("a", "one")
    for name in NAMES:
        put(folder, name, files[name])
    inbox.ingest()
    with inbox.ledger.write() as connection:
        connection.execute(sa.update(uploads).values(objects=None))
    for _ in range(2):
        inbox.ingest()
    assert len(inbox.rows()) == 1
    put(folder, "reflection.duckdb", inbox.made("a", "one", "two")[1]["reflection.duckdb"])
    inbox.ingest()
    assert [row.new_rows for row in inbox.rows()] == [1, 2]
