"""After a run was killed at any step of a batch, the next run stores every row once."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import StoreUnavailable
from akosha_assets.lake.ingestion import arrivals
from akosha_assets.lake.ingestion.inbox import listing
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.schema import batches
from akosha_assets.lake.schemas import WRITTEN_BY_INGESTION
from akosha_assets.lake.settings import LakeSettings
from tests.factories import make_upload

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)

# Ingests as any run does, and kills itself at the start of the step in its arguments.
INGEST = """
import os, signal, sys, threading
from pathlib import Path
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion import arrivals
from akosha_assets.lake.ingestion.extraction import protocol, spooled_rows
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.settings import LakeSettings

if "parts" in sys.argv[3:]:
    # As if every upload were too large to be held in memory and stored at once.
    protocol.IN_MEMORY_MAX_BYTES, spooled_rows.PART_ROWS = 0, 1

claimed = threading.Semaphore(0)

def on_step(step):
    if step == "claimed":
        claimed.release()
    if sys.argv[2] == "two under way" and step == "committed lifecycle/hot":
        # Its own claim and that of the batch that is read meanwhile.
        claimed.acquire(), claimed.acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    if step == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    settings = LakeSettings(home=Path(sys.argv[1]), workers=1)
    arrivals.ingest(Lake(settings), Ledger.open(settings), run_id="killed", on_step=on_step)
"""

STEPS = (
    "claimed",
    "fetched",
    "before_commit",
    "committed graph/entities",
    "committed lifecycle/hot",
    "committed ingestion/aliases",
    "finished",
)


def uploads(settings: LakeSettings, *, snapshot: int) -> None:
    """Three systems; the second snapshot lacks one memory, changes one, adds one and gives one a new id."""
    inbox = settings.home / "inbox"
    entities = [{"id": "e1", "name": "postgres", "entity_type": "technology", "observations": [f"seen {snapshot}"]}]
    for system in ("a", "b", "c"):
        stored = [
            {"id": f"R{number}", "content": f"{system} memory {number}"} for number in range(snapshot - 1, 5 + snapshot)
        ]
        stored[-1]["content"] += f" in snapshot {snapshot}"
        stored[1]["content"] += f" changed in snapshot {snapshot}"
        if snapshot == 2:
            stored[2]["id"] = "N3"
        make_upload(
            inbox, system, reflections=stored, others={"kg_entities": entities}, at=AT + timedelta(minutes=snapshot)
        )
    listing.sweep(settings, Ledger.open(settings), now=datetime.now(UTC), whole=True)


def contents(lake: Lake) -> dict[str, list[tuple[object, ...]]]:
    columns = {
        "lifecycle/hot": ["system_id", "kind", "id", "text"],
        "ingestion/absences": ["system_id", "id", "is_absent"],
        "ingestion/aliases": ["system_id", "id", "memory_id"],
    }
    return {
        spec.address: sorted(
            tuple(row.values())
            for row in lake.select(spec.address, columns.get(spec.address, ["system_id", "kind", "id"])).to_pylist()
        )
        for spec in WRITTEN_BY_INGESTION
    }


def end_leases(ledger: Ledger) -> None:
    with ledger.write() as connection:
        connection.execute(sa.update(batches).values(lease_until=datetime(2000, 1, 1, tzinfo=UTC)))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[object, ...]]]:
    settings = LakeSettings(home=tmp_path_factory.mktemp("calm"), workers=1)
    for snapshot in (1, 2):
        uploads(settings, snapshot=snapshot)
        arrivals.ingest(Lake(settings), Ledger.open(settings), run_id="calm")
    return contents(Lake(settings))


@pytest.mark.parametrize(
    ("step", "mode"),
    [*((step, "whole") for step in STEPS), ("committed lifecycle/hot", "parts"), ("finished", "parts")],
)
def test_a_run_killed_at_any_step_loses_and_repeats_no_row(
    step: str, mode: str, tmp_path: Path, expected: dict[str, list[tuple[object, ...]]]
) -> None:
    settings = LakeSettings(home=tmp_path, workers=1)
    lake, ledger = Lake(settings), Ledger.open(settings)
    uploads(settings, snapshot=1)
    arrivals.ingest(lake, ledger, run_id="before")
    uploads(settings, snapshot=2)
    killed = subprocess.run(
        [sys.executable, "-c", INGEST, str(tmp_path), step, mode], cwd=Path(__file__).parents[2], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    # The batch stays claimed until its lease ends.
    assert arrivals.ingest(lake, ledger, run_id="too early") == []
    end_leases(ledger)
    arrivals.ingest(lake, ledger, run_id="after")
    assert contents(lake) == expected
    assert {one.state for one in ledger.uploads().uploads} == {"ingested"}


def test_a_run_killed_between_two_batches_loses_and_repeats_no_row(
    tmp_path: Path, expected: dict[str, list[tuple[object, ...]]]
) -> None:
    settings = LakeSettings(home=tmp_path, workers=1)
    lake, ledger = Lake(settings), Ledger.open(settings)
    uploads(settings, snapshot=1)
    arrivals.ingest(lake, ledger, run_id="before")
    uploads(settings, snapshot=2)
    killed = subprocess.run(
        [sys.executable, "-c", INGEST, str(tmp_path), "two under way"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "AKOSHA_BATCH_UPLOADS": "1"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    with ledger.read() as connection:
        live = (
            connection.execute(sa.select(batches.c.lane).where(batches.c.state.in_(("claimed", "committing"))))
            .scalars()
            .all()
        )
    assert sorted(live) == [0, 1]
    end_leases(ledger)
    arrivals.ingest(lake, ledger, run_id="after")
    assert contents(lake) == expected
    assert {one.state for one in ledger.uploads().uploads} == {"ingested"}


def test_a_store_failure_in_one_batch_releases_the_uploads_of_both(
    tmp_path: Path, expected: dict[str, list[tuple[object, ...]]]
) -> None:
    settings = LakeSettings(home=tmp_path, workers=1, batch_uploads=1)
    lake, ledger = Lake(settings), Ledger.open(settings)
    for snapshot in (1, 2):
        uploads(settings, snapshot=snapshot)

    def fail(step: str) -> None:
        if step == "before_commit":
            raise StoreUnavailable("s3://gone", "no answer")

    with pytest.raises(StoreUnavailable):
        arrivals.ingest(lake, ledger, run_id="failed", on_step=fail)
    assert {(one.state, one.attempts) for one in ledger.uploads().uploads} == {("waiting", 0)}
    with ledger.write() as connection:
        assert (
            connection.execute(sa.select(batches.c.id).where(batches.c.state.in_(("claimed", "committing")))).all()
            == []
        )
        connection.execute(sa.text("UPDATE uploads SET not_before = NULL"))
    arrivals.ingest(lake, ledger, run_id="after")
    assert contents(lake) == expected


def test_a_run_that_lost_its_lease_while_alive_stores_nothing(
    tmp_path: Path, expected: dict[str, list[tuple[object, ...]]]
) -> None:
    settings = LakeSettings(home=tmp_path, workers=1)
    lake, ledger = Lake(settings), Ledger.open(settings)
    uploads(settings, snapshot=1)
    arrivals.ingest(lake, ledger, run_id="before")
    uploads(settings, snapshot=2)
    overtaken: list[Any] = []

    def overtake(step: str) -> None:
        # The slow run is between its commits; another run takes over the batch and finishes it.
        if step == "committed graph/entities" and not overtaken:
            overtaken.append(step)
            end_leases(ledger)
            arrivals.ingest(lake, ledger, run_id="fast")

    arrivals.ingest(lake, ledger, run_id="slow", on_step=overtake)
    assert overtaken
    assert contents(lake) == expected


def test_two_runs_side_by_side_store_each_row_once(
    tmp_path: Path, expected: dict[str, list[tuple[object, ...]]]
) -> None:
    settings = LakeSettings(home=tmp_path, workers=1)
    lake = Lake(settings)
    environment = {**os.environ, "AKOSHA_BATCH_UPLOADS": "1"}
    for snapshot in (1, 2):
        uploads(settings, snapshot=snapshot)
        runs = [
            subprocess.Popen(
                [sys.executable, "-c", INGEST, str(tmp_path), "never"], cwd=Path(__file__).parents[2], env=environment
            )
            for _ in range(2)
        ]
        assert [run.wait(timeout=100) for run in runs] == [0, 0]
    assert contents(lake) == expected


def test_a_system_state_lost_from_the_ledger_is_read_from_the_tables(
    tmp_path: Path, expected: dict[str, list[tuple[object, ...]]]
) -> None:
    settings = LakeSettings(home=tmp_path, workers=1)
    lake, ledger = Lake(settings), Ledger.open(settings)
    uploads(settings, snapshot=1)
    arrivals.ingest(lake, ledger, run_id="first")
    with ledger.write() as connection:
        connection.execute(sa.text("UPDATE systems SET is_known = false"))
        connection.execute(sa.text("DELETE FROM known"))
    uploads(settings, snapshot=2)
    arrivals.ingest(lake, ledger, run_id="second")
    assert contents(lake) == expected
