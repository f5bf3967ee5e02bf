"""Where a reader finds a memory: once, in the hottest tier that has it.

Two rules are enough, without a flag or a second source of truth. Tiers are opened in the order of `TIERS`, hot first: a
move writes the colder form before it removes the hotter one, so a row that has left hot is in warm when warm is opened.
And a row shadows the forms of the same memory in colder tiers, within its event day.
"""

from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa

from akosha_assets.lake import days, quoting, tables
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.columns import IDENTITY
from akosha_assets.lake.tiers import TIERS


@dataclass(frozen=True)
class Located:
    """A memory in its hottest form. `version`: the table version that was read."""

    tier: str
    version: int
    row: dict[str, Any]


def address(tier: str) -> str:
    """Address of the tier's table."""
    return f"lifecycle/{tier}"


def unshadowed(rows: pa.Table, hotter: pa.Table) -> pa.Table:
    """The rows whose memory is not in `hotter`; both tables have the identity columns."""
    if not rows.num_rows or not hotter.num_rows:
        return rows
    with duckdb.connect() as connection:
        connection.register("mine", rows)
        connection.register("hotter", hotter.select(list(IDENTITY)))
        return (
            connection.sql("SELECT * FROM mine ANTI JOIN hotter USING (system_id, kind, id)")
            .to_arrow_table()
            .cast(rows.schema)
        )


def read(lake: Lake, columns: list[str], *, event_days: list[date]) -> pa.Table:
    """Each memory of `event_days` once, in its hottest form: `columns`, which every tier must have, and `tier`."""
    needed = [*IDENTITY, *[name for name in columns if name not in IDENTITY]]
    where = f"event_day IN ({quoting.literals([day.isoformat() for day in event_days])})"
    seen: pa.Table | None = None
    parts = []
    for tier in TIERS:
        rows = lake.select(address(tier), needed, where)
        visible = rows if seen is None else unshadowed(rows, seen)
        identities = rows.select(list(IDENTITY))
        seen = identities if seen is None else pa.concat_tables([seen, identities])
        # A column may be nullable in one tier and not in another.
        parts.append(visible.append_column("tier", pa.array([tier] * visible.num_rows, pa.string())))
    return pa.concat_tables([part.cast(_loose(part.schema)) for part in parts]).select([*columns, "tier"])


def locate(lake: Lake, system_id: str, kind: str, id: str) -> Located | None:
    """The memory in its hottest form with all columns; None if no tier has it."""
    where = " AND ".join(
        f"{name} IN ({quoting.literals([value])})" for name, value in zip(IDENTITY, (system_id, kind, id), strict=True)
    )
    for tier in TIERS:
        table = lake.open(address(tier))
        if table is None:
            continue
        schema = lake.spec(address(tier)).schema
        rows = tables.select(table, schema.names, schema, where).to_pylist()
        if rows:
            # A memory has two event days only while its source moves it; the newer snapshot counts.
            return Located(tier, table.version(), max(rows, key=lambda row: row["snapshot_at"]))
    return None


def days_in(lake: Lake) -> dict[str, dict[date, days.Stored]]:
    """What each tier stores by event day; a day that is moving counts in both tiers."""
    by_tier: dict[str, dict[date, days.Stored]] = {}
    for tier in TIERS:
        table = lake.open(address(tier))
        by_tier[tier] = {} if table is None else days.stored(table)
    return by_tier


def _loose(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_nullable(True).remove_metadata() for field in schema])
