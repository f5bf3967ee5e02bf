"""`akosha status --watch`: backlog, tiers, recent uploads and alerts on one live screen."""

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import duckdb
from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from akosha_assets.cli.output import console, format_bytes
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion import backlog
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.inventory import table_size
from akosha_assets.lake.watch import alerts
from akosha_assets.lake.watch.alert_kinds import AlertState

if TYPE_CHECKING:
    from akosha_assets.lake.ingestion.backlog import Backlog, BacklogPoint

BARS = " ▁▂▃▄▅▆▇█"
COLORS = {"hot": "red", "warm": "yellow", "cold": "blue"}
LEVELS = {"ok": "green", "warn": "yellow", "error": "red"}


def watch(lake: Lake, ledger: Ledger, *, seconds: float, rounds: int | None = None) -> None:
    """Draw the screen every `seconds` until Ctrl-C, or `rounds` times."""
    with duckdb.connect() as connection, Live(console=console, screen=rounds is None, auto_refresh=False) as live:
        drawn = 0
        try:
            while rounds is None or drawn < rounds:
                live.update(screen(lake, ledger, connection), refresh=True)
                drawn += 1
                if drawn != rounds:
                    time.sleep(seconds)
        except KeyboardInterrupt:
            return


def screen(lake: Lake, ledger: Ledger, connection: duckdb.DuckDBPyConnection) -> RenderableType:
    """The present state of the lake as one screen."""
    now = datetime.now(UTC)
    measured = backlog.measure(ledger, now=now)
    moments = backlog.history(ledger, now=now, span=timedelta(minutes=60), step=timedelta(minutes=1))
    firing = alerts.list_alerts(ledger, state=AlertState.FIRING)
    verdicts = [backlog.judge_size(ledger, measured), backlog.judge_age(ledger.settings, measured)]
    worst = max((verdict.level for verdict in verdicts), key=list(LEVELS).index)
    layout = Layout()
    layout.split_column(
        Layout(name="top", size=9), Layout(name="middle"), Layout(name="bottom", size=6 + min(4, len(firing)))
    )
    layout["top"].split_row(
        Layout(
            Panel(
                _backlog(measured, moments), title="Backlog, last hour", border_style=LEVELS[worst], title_align="left"
            ),
            ratio=2,
        ),
        Layout(Panel(_tiers(lake, connection), title="Tiers", title_align="left")),
    )
    layout["middle"].update(Panel(_uploads(ledger), title="Recent uploads", title_align="left"))
    lines = [
        Text(f"{row.severity}: {row.title}. {row.detail}", style="red" if row.severity == "critical" else "yellow")
        for row in firing[:5]
    ]
    layout["bottom"].update(
        Panel(
            Group(*(lines or [Text("No alert is firing.", style="green")])),
            title="Alerts",
            title_align="left",
            subtitle=f"{now:%H:%M:%S} UTC · {lake.settings.home} · Ctrl-C",
            subtitle_align="right",
        )
    )
    return layout


def sparkline(values: list[int]) -> str:
    """One character for each value; its height is the ratio to the largest value."""
    largest = max([1, *values])
    return "".join(BARS[-(-value * (len(BARS) - 1) // largest)] for value in values)


def _backlog(measured: "Backlog", moments: "list[BacklogPoint]") -> RenderableType:
    facts = Table.grid(padding=(0, 3))
    for _ in range(4):
        facts.add_column()
    catch_up = "never at this rate" if measured.catch_up_seconds is None else f"{measured.catch_up_seconds:,.0f} s"
    facts.add_row(
        f"[bold]{measured.waiting:,}[/] waiting",
        f"[bold]{format_bytes(measured.waiting_bytes)}[/]",
        f"oldest [bold]{measured.oldest_waiting_seconds:,.0f} s[/]",
        f"catch-up time [bold]{catch_up}[/]",
    )
    facts.add_row(
        f"[bold]{measured.arrivals_per_second * 60:,.0f}[/] arrive per minute",
        f"[bold]{measured.drained_per_second * 60:,.0f}[/] ingested per minute",
        f"[bold]{measured.quarantined:,}[/] in quarantine",
        f"[bold]{measured.incomplete:,}[/] incomplete",
    )
    waited = Text(sparkline([moment.waiting for moment in moments]), style="blue")
    drained = Text(sparkline([moment.drained for moment in moments]), style="green")
    return Group(facts, Text(), waited.append("  waiting", style="dim"), drained.append("  ingested", style="dim"))


def _tiers(lake: Lake, connection: duckdb.DuckDBPyConnection) -> RenderableType:
    sizes = {tier: table_size(lake, f"lifecycle/{tier}", connection) for tier in COLORS}
    largest = max([1, *(one.rows for one in sizes.values())])
    table = Table.grid(padding=(0, 1))
    for tier, one in sizes.items():
        bar = "█" * max(1 if one.rows else 0, round(16 * one.rows / largest))
        table.add_row(
            tier, f"[{COLORS[tier]}]{bar:<16}[/]", f"[bold]{one.rows:,}[/]", f"[dim]{format_bytes(one.stored_bytes)}[/]"
        )
    return table


def _uploads(ledger: Ledger) -> RenderableType:
    table = Table(box=None, header_style="dim", pad_edge=False, expand=True)
    table.add_column("upload", ratio=1, no_wrap=True)
    for name in ("state", "seen"):
        table.add_column(name, no_wrap=True)
    for name in ("took", "new", "changed"):
        table.add_column(name, justify="right", no_wrap=True)
    styles = {"ingested": "green", "quarantined": "red", "claimed": "blue"}
    for row in ledger.uploads(limit=20).uploads:
        took = f"{(row.ingested_at - row.seen_at).total_seconds():,.1f} s" if row.ingested_at else "–"
        state = Text(row.reason or row.state, style=styles.get(row.state, ""))
        counts = ("–" if count is None else f"{count:,}" for count in (row.new_rows, row.changed_rows))
        # Upload ids are untrusted; in a Text they cannot be markup.
        table.add_row(Text(row.upload_id), state, f"{row.seen_at:%H:%M:%S}", took, *counts)
    return table
