"""Why a memory is where it is: its tier, its policy, its bytes, and the upload and runs it came by."""

from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa
import sqlalchemy as sa

from akosha_assets.lake import days, tables
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import NotFound
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.schema import uploads
from akosha_assets.lake.lifecycle.placement import TIERS, address, locate
from akosha_assets.lake.lifecycle.policy import HOT, TierPolicy


@dataclass(frozen=True)
class Explanation:
    """Everything the lake knows of one memory's place. `moves_on` is the day it leaves its tier, or may be deleted from
    cold.
    """

    system_id: str
    kind: str
    id: str
    tier: str
    reason: str
    event_day: date
    occurred_at: datetime
    occurred_from: str
    moves_on: date | None
    next_tier: str
    policy_version: str
    policy: str | None
    moved_at: datetime | None
    aged_by: str | None
    summary_method: str | None
    recall_at_10: float | None
    has_vector: bool
    space: str | None
    table: str
    table_version: int
    files: list[str]
    upload_id: str
    object_key: str
    source_table: str
    snapshot_at: datetime
    arrived_at: datetime
    batch_id: int
    ingest_run: str | None
    also_in: list[str]


def explain(
    lake: Lake, ledger: Ledger, system_id: str, kind: str, id: str, *, policy: TierPolicy, today: date
) -> Explanation:
    """The place of the memory (`system_id`, `kind`, `id`). `ingest_run` is None where the ledger no longer knows the
    upload.

    Raises:
        NotFound: no tier holds it.
    """
    found = locate(lake, system_id, kind, id)
    if found is None:
        raise NotFound("memory", f"{system_id}/{kind}/{id}")
    row, day = found.row, found.row["event_day"]
    wanted = policy.tier_of(day, today)
    age_days = (today - day).days
    reason = f"its event day is {age_days} days old, and {found.tier} holds {_window(policy, found.tier)}"
    if wanted != found.tier:
        reason = (
            f"its event day is {age_days} days old and belongs in {wanted}; it arrived or changed there since, "
            "and the next aging run moves it"
        )
    move = _move(lake, day, found.tier)
    return Explanation(
        system_id=system_id,
        kind=kind,
        id=id,
        tier=found.tier,
        reason=reason,
        event_day=day,
        occurred_at=row["occurred_at"],
        occurred_from=row["occurred_from"],
        moves_on=policy.moves_on(day, found.tier),
        next_tier=wanted if wanted != found.tier else {"hot": "warm", "warm": "cold"}.get(found.tier, "none"),
        policy_version=row.get("policy_version") or policy.version,
        policy=move["policy"] if move else (policy.json if found.tier == HOT else None),
        moved_at=row.get("moved_at"),
        aged_by=row.get("aged_by"),
        summary_method=row.get("summary_method"),
        recall_at_10=move["recall_at_10"] if move else None,
        has_vector=row["space"] is not None,
        space=row["space"],
        table=address(found.tier),
        table_version=found.version,
        files=_files(lake, found.tier, day, row["system_id"]),
        upload_id=row["upload_id"],
        object_key=row["object_key"],
        source_table=row["source_table"],
        snapshot_at=row["snapshot_at"],
        arrived_at=row["arrived_at"],
        batch_id=row["batch_id"],
        ingest_run=_ingest_run(ledger, system_id, row["upload_id"]),
        also_in=_hidden_forms(lake, found.tier, day, system_id, kind, id),
    )


def _window(policy: TierPolicy, tier: str) -> str:
    windows = {
        "hot": f"days younger than {policy.hot_days}",
        "warm": f"days from {policy.hot_days} to {policy.warm_days - 1}",
        "cold": f"days from {policy.warm_days} on, for {policy.cold_years} years",
    }
    return windows[tier]


def _move(lake: Lake, day: date, tier: str) -> dict | None:
    columns = ["policy", "policy_version", "recall_at_10", "moved_at"]
    moves = lake.select(address("moves"), columns, days.predicate(day, f"tier = '{tier}'")).to_pylist()
    if not moves:
        return None
    moves.sort(key=lambda move: move["moved_at"])
    # What was made anew later was not asked again.
    asked = [move["recall_at_10"] for move in moves if move["recall_at_10"] is not None]
    return moves[-1] | {"recall_at_10": asked[-1] if asked else None}


def _ingest_run(ledger: Ledger, system_id: str, upload_id: str) -> str | None:
    query = sa.select(uploads.c.run_id).where(uploads.c.system_id == system_id, uploads.c.upload_id == upload_id)
    with ledger.read() as connection:
        return connection.scalars(query.order_by(uploads.c.id.desc())).first()


def _files(lake: Lake, tier: str, day: date, system_id: str) -> list[str]:
    """Data files of the day whose statistics allow the system."""
    table = lake.open(address(tier))
    if table is None:
        return []
    actions = pa.table(table.get_add_actions(flatten=True))
    return sorted(
        f"{lake.uri(address(tier))}/{action['path']}"
        for action in actions.to_pylist()
        if action["partition.event_day"] == day
        and (action.get("min.system_id") or "") <= system_id
        and (action.get("max.system_id") is None or system_id <= action["max.system_id"])
    )


def _hidden_forms(lake: Lake, tier: str, day: date, system_id: str, kind: str, id: str) -> list[str]:
    """Colder tiers that still hold a form of the memory, which this one hides until the day is aged again."""
    where = days.predicate(
        day,
        " AND ".join(
            f"{name} IN ({tables.quoted([value])})"
            for name, value in (("system_id", system_id), ("kind", kind), ("id", id))
        ),
    )
    return [colder for colder in TIERS[TIERS.index(tier) + 1 :] if lake.select(address(colder), ["id"], where).num_rows]
