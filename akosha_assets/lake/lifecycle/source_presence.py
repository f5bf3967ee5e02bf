"""What the source of a memory still has of it: the ids that it gave the memory, and since when it lacks the memory."""

from dataclasses import dataclass
from datetime import datetime

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.quoting import literal
from akosha_assets.lake.schemas import ABSENCES, ALIASES


@dataclass(frozen=True, kw_only=True)
class Alias:
    """An id that the source gave to a memory after the one under which it is stored."""

    id: str
    snapshot_at: datetime
    upload_id: str | None


def memory_id(lake: Lake, system_id: str, kind: str, id: str) -> str | None:
    """The id under which the memory with the alias `id` is stored; None where `id` is no alias."""
    rows = lake.select(ALIASES.address, ["memory_id", "snapshot_at"], _where(system_id, kind, id=id)).to_pylist()
    return max(rows, key=lambda row: row["snapshot_at"])["memory_id"] if rows else None


def aliases(lake: Lake, system_id: str, kind: str, memory_id: str) -> list[Alias]:
    """The other ids of a memory, in the order in which they came."""
    where = _where(system_id, kind, memory_id=memory_id)
    rows = lake.select(ALIASES.address, ["id", "snapshot_at", "upload_id"], where).to_pylist()
    newest = {row["id"]: Alias(**row) for row in sorted(rows, key=lambda row: row["snapshot_at"])}
    return sorted(newest.values(), key=lambda alias: (alias.snapshot_at, alias.id))


def absent_since(lake: Lake, system_id: str, kind: str, memory_id: str) -> datetime | None:
    """The time of the snapshot that lacked the memory; None where its source has it."""
    where = _where(system_id, kind, id=memory_id)
    rows = lake.select(ABSENCES.address, ["is_absent", "snapshot_at", "batch_id"], where).to_pylist()
    newest = max(rows, key=lambda row: (row["snapshot_at"], row["batch_id"]), default=None)
    return newest["snapshot_at"] if newest and newest["is_absent"] else None


def _where(system_id: str, kind: str, **columns: str) -> str:
    values = {"system_id": system_id, "kind": kind, **columns}
    return " AND ".join(f"{name} = {literal(value)}" for name, value in values.items())
