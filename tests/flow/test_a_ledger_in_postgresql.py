"""Ingestion with the ledger in PostgreSQL, including its loss and rebuild."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion import arrivals, backlog, ledger_rebuild
from akosha_assets.lake.ingestion.inbox import listing
from akosha_assets.lake.ingestion.ledger import replay
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.settings import LakeSettings
from tests.factories import make_upload
from tests.postgres import postgresql

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_rows_are_stored_once_even_after_the_ledger_is_lost(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="akosha-pg-") as folder, postgresql(Path(folder)) as url:
        settings = LakeSettings(home=tmp_path, ledger_url=url)
        lake, ledger = Lake(settings), Ledger.open(settings)
        for system in ("a", "b"):
            make_upload(tmp_path / "inbox", system, reflections=[{"id": "R1", "content": f"lesson of {system}"}])
        listing.sweep(settings, ledger, now=NOW)
        arrivals.ingest(lake, ledger, run_id="first")
        replay.requeue_day(ledger, NOW.date(), now=NOW)
        arrivals.ingest(lake, ledger, run_id="replay", arrival_day=NOW.date())
        assert backlog.measure(ledger, now=NOW).ingested == 2
        ledger.close()

        with sa.create_engine(url).begin() as connection:
            connection.execute(sa.text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
        ledger = Ledger.open(settings)
        assert ledger_rebuild.rebuild(lake, ledger, now=NOW) == ledger_rebuild.Rebuilt(ingested=0, waiting=2, systems=2)
        make_upload(tmp_path / "inbox", "c", reflections=[{"id": "R1", "content": "lesson of c"}])
        listing.sweep(settings, ledger, now=NOW)
        arrivals.ingest(lake, ledger, run_id="after")
        rows = lake.select("lifecycle/hot", ["system_id", "text", "batch_id"]).sort_by("system_id").to_pylist()
        assert [row["text"] for row in rows] == ["lesson of a", "lesson of b", "lesson of c"]
        assert rows[2]["batch_id"] > rows[0]["batch_id"]
        ledger.close()
