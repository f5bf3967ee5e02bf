"""Retention: counts or deletes rows that are past the cold window, except rows under a hold.

Deleting rows of a system on request (erasure) is not retention.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from akosha_assets.lake import days, quoting
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import InvalidRequest, NotFound, TableContended
from akosha_assets.lake.lifecycle.assumed_times import new_rows
from akosha_assets.lake.lifecycle.placement import address
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle_tables import HOLDS
from akosha_assets.lake.tables import Fence
from akosha_assets.lake.tiers import TIERS

WRITER = "retention/holds"


@dataclass(frozen=True)
class Hold:
    """Rows that must not be deleted: of one system or of all (None), between two event days, both included."""

    hold_id: str
    system_id: str | None
    from_day: date | None
    until_day: date | None
    reason: str

    def predicate(self) -> str:
        """SQL that is true for the rows under the hold."""
        terms = []
        if self.system_id is not None:
            terms.append(f"system_id IN ({quoting.literals([self.system_id])})")
        if self.from_day is not None:
            terms.append(f"event_day >= '{self.from_day}'")
        if self.until_day is not None:
            terms.append(f"event_day <= '{self.until_day}'")
        return " AND ".join(terms) or "true"


@dataclass(frozen=True)
class Deletion:
    """The rows that retention deleted or would delete, by tier: those before `before_day`. `rows_held` are kept."""

    before_day: date
    rows: dict[str, int]
    rows_held: int
    holds: list[Hold]
    is_dry_run: bool


def holds(lake: Lake) -> list[Hold]:
    """The active holds, by name."""
    latest: dict[str, dict[str, Any]] = {}
    for row in sorted(lake.select(address("holds"), HOLDS.schema.names).to_pylist(), key=lambda row: row["changed_at"]):
        latest[row["hold_id"]] = row
    return [
        Hold(name, row["system_id"], row["from_day"], row["until_day"], row["reason"] or "")
        for name, row in sorted(latest.items())
        if row["is_active"]
    ]


def place(lake: Lake, hold: Hold, *, changed_at: datetime) -> None:
    """Activates `hold`; it replaces one of the same name."""
    if hold.from_day and hold.until_day and hold.from_day > hold.until_day:
        raise InvalidRequest("until_day", f"{hold.until_day} is before {hold.from_day}, so nothing would be held")
    _write(lake, hold, is_active=True, changed_at=changed_at)


def release(lake: Lake, hold_id: str, *, changed_at: datetime) -> None:
    """Deactivates the hold.

    Raises:
        NotFound: there is no active hold of that name.
    """
    hold = {hold.hold_id: hold for hold in holds(lake)}.get(hold_id)
    if hold is None:
        raise NotFound("hold", hold_id)
    _write(lake, hold, is_active=False, changed_at=changed_at)


def expire(lake: Lake, policy: TierPolicy, *, today: date, run: str, dry_run: bool = True) -> Deletion:
    """Deletes rows that are past the cold window from every tier, except those under a hold. A dry run only counts.

    Rows that arrived yesterday or later with an assumed time (`assumed_times.py`) are not past it.

    Raises:
        TableContended: other writers changed the same days; nothing of that tier was deleted.
    """
    first_kept = policy.first_kept_day(today)
    active = holds(lake)
    past = f"event_day < '{first_kept}' AND NOT ({new_rows(today)})"
    past_probes = f"event_day < '{first_kept}'"
    not_held = "".join(f" AND NOT coalesce(({hold.predicate()}), false)" for hold in active)
    deletable = past + not_held
    metadata = {"akosha_op": "retention", "akosha_run": run}
    rows: dict[str, int] = {}
    held = 0
    for tier in TIERS:
        table = lake.open(address(tier))
        if table is None:
            continue
        spec = lake.spec(address(tier))
        past_rows = sum(batch.num_rows for batch in days.stream(table, spec, ["event_day"], past))
        rows[tier] = sum(batch.num_rows for batch in days.stream(table, spec, ["event_day"], deletable))
        held += past_rows - rows[tier]
        if rows[tier] and not dry_run:
            rows[tier] = days.remove(table, deletable, writer=f"retention/{tier}", metadata=metadata)
    # Probes are vectors of rows, so the same rule applies to them.
    probes = lake.open(address("probes"))
    if probes is not None and any(rows.values()) and not dry_run:
        days.remove(probes, past_probes + not_held, writer="retention/probes", metadata=metadata)
    return Deletion(first_kept, rows, held, active, dry_run)


def _write(lake: Lake, hold: Hold, *, is_active: bool, changed_at: datetime) -> None:
    row = {**hold.__dict__, "is_active": is_active, "changed_at": changed_at}
    version = lake.create(address("holds")).transaction_version(WRITER) or 0
    new = pa.Table.from_pylist([row], HOLDS.schema)
    lake.append(address("holds"), new, Fence(WRITER, version + 1), {"akosha_op": "hold"})
    # Two people may place holds at the same time; a hold that was not stored must be an error.
    if row not in lake.select(address("holds"), HOLDS.schema.names).to_pylist():
        raise TableContended(
            address("holds"), 1, f"another hold was written at the same time as {hold.hold_id!r}; try again"
        )
