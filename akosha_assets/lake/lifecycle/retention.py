"""What has outlived the cold window: marking is a look, deleting is a separate act with a dry run, and holds exclude
rows.

Deleting rows of a living system on request (erasure) is not retention.
"""

from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa

from akosha_assets.lake import days, tables
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import InvalidRequest, NotFound, TableContended
from akosha_assets.lake.lifecycle.placement import TIERS, address
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle_tables import HOLDS
from akosha_assets.lake.tables import Fence

WRITER = "retention/holds"


@dataclass(frozen=True)
class Hold:
    """Rows that must not be deleted: of one system or of all (None), from and until event days, both included."""

    hold_id: str
    system_id: str | None
    from_day: date | None
    until_day: date | None
    reason: str

    def predicate(self) -> str:
        """SQL that names the rows that are held."""
        terms = []
        if self.system_id is not None:
            terms.append(f"system_id IN ({tables.quoted([self.system_id])})")
        if self.from_day is not None:
            terms.append(f"event_day >= '{self.from_day}'")
        if self.until_day is not None:
            terms.append(f"event_day <= '{self.until_day}'")
        return " AND ".join(terms) or "true"


@dataclass(frozen=True)
class Deletion:
    """What retention deleted, or would: rows by tier past `before_day`, and how many a hold keeps."""

    before_day: date
    rows: dict[str, int]
    rows_held: int
    holds: list[Hold]
    is_dry_run: bool


def holds(lake: Lake) -> list[Hold]:
    """The holds in force, by name."""
    latest: dict[str, dict] = {}
    for row in sorted(lake.select(address("holds"), HOLDS.schema.names).to_pylist(), key=lambda row: row["changed_at"]):
        latest[row["hold_id"]] = row
    return [
        Hold(name, row["system_id"], row["from_day"], row["until_day"], row["reason"] or "")
        for name, row in sorted(latest.items())
        if row["is_active"]
    ]


def place(lake: Lake, hold: Hold, *, changed_at: datetime) -> None:
    """`hold` is in force; one of the same name is replaced."""
    if hold.from_day and hold.until_day and hold.from_day > hold.until_day:
        raise InvalidRequest("until_day", f"{hold.until_day} is before {hold.from_day}, so nothing would be held")
    _write(lake, hold, is_active=True, changed_at=changed_at)


def release(lake: Lake, hold_id: str, *, changed_at: datetime) -> None:
    """The hold is no longer in force.

    Raises:
        NotFound: there is none of that name.
    """
    found = {hold.hold_id: hold for hold in holds(lake)}.get(hold_id)
    if found is None:
        raise NotFound("hold", hold_id)
    _write(lake, found, is_active=False, changed_at=changed_at)


def expire(lake: Lake, policy: TierPolicy, *, today: date, run: str, dry_run: bool = True) -> Deletion:
    """Rows older than the cold window are gone from every tier, except those a hold names. Dry run: they are only
    counted.

    Raises:
        TableContended: other writers touched the same days; nothing of that tier was deleted.
    """
    first_kept = policy.first_kept_day(today)
    in_force = holds(lake)
    past = f"event_day < '{first_kept}'"
    free = past + "".join(f" AND NOT coalesce(({hold.predicate()}), false)" for hold in in_force)
    rows: dict[str, int] = {}
    held = 0
    for tier in TIERS:
        table = lake.open(address(tier))
        if table is None:
            continue
        spec = lake.spec(address(tier))
        every = sum(batch.num_rows for batch in days.stream(table, spec, ["event_day"], past))
        rows[tier] = sum(batch.num_rows for batch in days.stream(table, spec, ["event_day"], free))
        held += every - rows[tier]
        if rows[tier] and not dry_run:
            rows[tier] = days.remove(
                table, free, writer=f"retention/{tier}", metadata={"akosha_op": "retention", "akosha_run": run}
            )
    # Probes are vectors of rows: they go with them, and stay with those that are held.
    probes = lake.open(address("probes"))
    if probes is not None and any(rows.values()) and not dry_run:
        days.remove(probes, free, writer="retention/probes", metadata={"akosha_op": "retention", "akosha_run": run})
    return Deletion(first_kept, rows, held, in_force, dry_run)


def _write(lake: Lake, hold: Hold, *, is_active: bool, changed_at: datetime) -> None:
    row = {**hold.__dict__, "is_active": is_active, "changed_at": changed_at}
    known = lake.create(address("holds")).transaction_version(WRITER)
    lake.append(
        address("holds"),
        pa.Table.from_pylist([row], HOLDS.schema),
        Fence(WRITER, (known or 0) + 1),
        {"akosha_op": "hold"},
    )
    # Two people may place holds in the same second; neither may be told of a hold that is not there.
    if row not in lake.select(address("holds"), HOLDS.schema.names).to_pylist():
        raise TableContended(
            address("holds"), 1, f"another hold was written at the same time as {hold.hold_id!r}; say it again"
        )
