"""The live screen shows the ledger and the tables, and does not interpret markup in upload ids."""

import io
from datetime import UTC, datetime

import duckdb
from rich.console import Console

from akosha_assets.cli.watching import screen, sparkline
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.ledger.found_uploads import FoundUpload
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.watch import alerts
from akosha_assets.lake.watch.alert_kinds import Runbook, Scope, Severity
from tests.hot_rows import commit, memory


def test_the_screen_shows_backlog_tiers_uploads_and_alerts(lake: Lake) -> None:
    commit(lake, 1, memory("1", "Postgres deadlock"), memory("2", "Redis evicts"))
    ledger = Ledger.open(lake.settings)
    now = datetime.now(UTC)
    ledger.add([FoundUpload("s", "[red]odd[/]", "session-buddy", "p", "1", 2048, now)], found_by="listing", now=now)
    alerts.observe(
        ledger,
        [alerts.Condition("run/x", Severity.WARNING, "Job x fails", "it broke", Runbook.FAILED_RUN)],
        scopes=[Scope.RUN],
        now=now,
    )
    console = Console(file=io.StringIO(), width=140, height=30, record=True)
    with duckdb.connect() as connection:
        console.print(screen(lake, ledger, connection))
    ledger.close()
    shown = console.export_text()
    for expected in ("1 waiting", "2.0 KiB", "[red]odd[/]", "waiting", "Job x fails. it broke"):
        assert expected in shown, shown
    assert any(line.split()[-4:-2] != [] and " hot " in line and " 2 " in line for line in shown.splitlines()), shown


def test_a_sparkline_has_the_heights_of_the_values() -> None:
    assert sparkline([0, 1, 4, 8]) == " ▁▄█"
    assert sparkline([0, 0]) == "  "
