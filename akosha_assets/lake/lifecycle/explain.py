"""Explains where a memory is stored and why: its tier, policy, files, upload and runs."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from akosha_assets.lake import days, quoting
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import NotFound
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.schema import uploads
from akosha_assets.lake.lifecycle.placement import address, locate
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle.source_presence import Alias, absent_since, aliases, memory_id
from akosha_assets.lake.tiers import TIERS, Tier

NEXT_TIER: dict[str, str] = {Tier.HOT: Tier.WARM, Tier.WARM: Tier.COLD}


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Where one memory is stored, and why. `moves_on`: the day on which it leaves its tier, or may be deleted.

    `id`: under which it is stored; `aliases`: the ids that its source gave it later. `absent_since`: the snapshot that
    lacked it, None while its source has it.
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
    aliases: list[Alias]
    absent_since: datetime | None


def explain(
    lake: Lake, ledger: Ledger, system_id: str, kind: str, id: str, *, policy: TierPolicy, today: date
) -> Explanation:
    """Explains the memory (`system_id`, `kind`, `id`); `id` may be an alias. `ingest_run` is None if the ledger no
    longer has the upload.

    Raises:
        NotFound: no tier has the memory.
    """
    located = locate(lake, system_id, kind, id)
    if located is None and (stored_id := memory_id(lake, system_id, kind, id)) is not None:
        id, located = stored_id, locate(lake, system_id, kind, stored_id)
    if located is None:
        raise NotFound("memory", f"{system_id}/{kind}/{id}")
    row, day = located.row, located.row["event_day"]
    target = policy.tier_of(day, today)
    age_days = (today - day).days
    reason = f"its event day is {age_days} days old, and {located.tier} holds {_window(policy, located.tier)}"
    if target != located.tier:
        reason = (
            f"its event day is {age_days} days old and belongs in {target}; it arrived or changed after the last "
            "aging run, and the next one moves it"
        )
    move = _move(lake, day, located.tier)
    return Explanation(
        system_id=system_id,
        kind=kind,
        id=id,
        tier=located.tier,
        reason=reason,
        event_day=day,
        occurred_at=row["occurred_at"],
        occurred_from=row["occurred_from"],
        moves_on=policy.moves_on(day, located.tier),
        next_tier=target if target != located.tier else NEXT_TIER.get(located.tier, "none"),
        policy_version=row.get("policy_version") or policy.version,
        policy=move["policy"] if move else (policy.json if located.tier == Tier.HOT else None),
        moved_at=row.get("moved_at"),
        aged_by=row.get("aged_by"),
        summary_method=row.get("summary_method"),
        recall_at_10=move["recall_at_10"] if move else None,
        has_vector=row["space"] is not None,
        space=row["space"],
        table=address(located.tier),
        table_version=located.version,
        files=_files(lake, located.tier, day, row["system_id"]),
        upload_id=row["upload_id"],
        object_key=row["object_key"],
        source_table=row["source_table"],
        snapshot_at=row["snapshot_at"],
        arrived_at=row["arrived_at"],
        batch_id=row["batch_id"],
        ingest_run=_ingest_run(ledger, system_id, row["upload_id"]),
        also_in=_hidden_forms(lake, located.tier, day, system_id, kind, id),
        aliases=aliases(lake, system_id, kind, id),
        absent_since=absent_since(lake, system_id, kind, id),
    )


def _window(policy: TierPolicy, tier: str) -> str:
    windows: dict[str, str] = {
        Tier.HOT: f"days younger than {policy.hot_days}",
        Tier.WARM: f"days from {policy.hot_days} to {policy.warm_days - 1}",
        Tier.COLD: f"days from {policy.warm_days} on, for {policy.cold_years} years",
    }
    return windows[tier]


def _move(lake: Lake, day: date, tier: str) -> dict[str, Any] | None:
    """The newest row about the day's moves to `tier`, with the recall of the newest one that was measured."""
    columns = ["policy", "policy_version", "recall_at_10", "moved_at"]
    moves: list[dict[str, Any]] = lake.select(
        address("moves"), columns, days.predicate(day, f"tier = '{tier}'")
    ).to_pylist()
    if not moves:
        return None
    moves.sort(key=lambda move: move["moved_at"])
    # Reprocessing adds moves without measuring recall.
    measured = [move["recall_at_10"] for move in moves if move["recall_at_10"] is not None]
    return moves[-1] | {"recall_at_10": measured[-1] if measured else None}


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
    """Colder tiers with an older form of the memory, which `tier` hides until the day is aged again."""
    where = days.predicate(
        day,
        " AND ".join(
            f"{name} IN ({quoting.literals([value])})"
            for name, value in (("system_id", system_id), ("kind", kind), ("id", id))
        ),
    )
    return [colder for colder in TIERS[TIERS.index(tier) + 1 :] if lake.select(address(colder), ["id"], where).num_rows]
