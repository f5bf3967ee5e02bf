"""Reads without ranking: one memory with every column of its table, and the list of systems."""

import json
from datetime import datetime
from typing import Any, TypedDict

import numpy as np

from akosha_assets.lake import tables
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import TableUnreadable
from akosha_assets.lake.quoting import literal
from akosha_assets.lake.serving.query import Identity
from akosha_assets.lake.serving.search.results import MemoryFields, render_row, to_datetime
from akosha_assets.lake.serving.snapshot import Snapshot

ATTRIBUTES_MAX_DEPTH = 64
PROVENANCE = (
    "content_hash",
    "source_table",
    "upload_id",
    "object_key",
    "object_etag",
    "snapshot_at",
    "arrived_at",
    "batch_id",
    "parser_version",
)


class FullMemoryFields(MemoryFields):
    """One memory with the columns that only its table has."""

    attributes: dict[str, Any] | None
    provenance: dict[str, Any]
    has_vector: bool
    space: str | None
    # Other ids of the memory, in the order in which its source gave them.
    aliases: list[str]


class SystemFields(TypedDict):
    """A system with its memories counted, and the times of the first and the last."""

    system_id: str
    memories: int
    first_occurred_at: datetime
    last_occurred_at: datetime
    last_arrived_at: datetime


def read_memory(lake: Lake, snapshot: Snapshot, identity: Identity, *, is_past: bool = False) -> FullMemoryFields:
    """One memory, by any of its ids, from the hottest tier that has it. With `is_past` the snapshot shows an earlier
    version of the tables.

    Raises:
        NotFound: no tier has it.
        TierUnavailable: a tier that may have it cannot be read.
        StoreUnavailable: its table could not be read.
    """
    place = snapshot.find(identity)
    if place is None:
        raise snapshot.missing(identity)
    identity = snapshot.resolve(identity)
    tier, part, row = place
    fields = render_row(tier, part, row, part.payload.value("text", row), snapshot.terms)
    stored = _stored_columns(lake, snapshot, identity, tier, part.day.isoformat(), is_past=is_past)
    # The row may have moved or been rewritten a moment ago: then the answer has what the replica has of it.
    stored = stored or {"upload_id": fields["upload_id"]}
    space = next((space for space, vectors in part.vectors.items() if vectors.vector_of(row) is not None), None)
    return {
        **fields,
        "attributes": decode_attributes(stored["attributes"]) if stored.get("attributes") else None,
        "provenance": {column: stored[column] for column in PROVENANCE if column in stored},
        "has_vector": space is not None,
        "space": space,
        "aliases": snapshot.presence.aliases_of(int(part.identity[row])),
    }


def _stored_columns(
    lake: Lake, snapshot: Snapshot, identity: Identity, tier: str, day: str, *, is_past: bool
) -> dict[str, Any] | None:
    """The provenance and attributes of the newest row of a memory in the table of `tier`; None if it has no row."""
    address = f"lifecycle/{tier}"
    schema = lake.spec(address).schema
    table = lake.open(address, snapshot.tiers[tier].version if is_past else None)
    if table is None:
        raise TableUnreadable(lake.uri(address), "has no log now, or none of the version asked for")
    values = {"event_day": day, "system_id": identity.system_id, "kind": identity.kind, "id": identity.id}
    where = " AND ".join(f"{name} = {literal(value)}" for name, value in values.items())
    columns = [name for name in (*PROVENANCE, "attributes") if name in schema.names]
    rows: list[dict[str, Any]] = tables.select(table, columns, schema, where).to_pylist()
    return max(rows, key=lambda row: row["snapshot_at"], default=None)


def decode_attributes(text: str) -> dict[str, Any]:
    """The attributes of a row. Those that a JSON answer cannot contain are `{"_json": text}`: nested deeper
    than `ATTRIBUTES_MAX_DEPTH`, invalid JSON, not an object, or invalid Unicode.
    """
    undecoded = {"_json": text}
    try:
        decoded = json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return undecoded
    if not isinstance(decoded, dict):
        return undecoded
    level: list[Any] = [decoded]
    for _ in range(ATTRIBUTES_MAX_DEPTH):
        keys = [key for value in level if isinstance(value, dict) for key in value]
        level = [inner for value in level for inner in (value.values() if isinstance(value, dict) else value)]
        if not all(_is_unicode(string) for string in (*keys, *level) if isinstance(string, str)):
            return undecoded
        level = [value for value in level if isinstance(value, dict | list)]
        if not level:
            return decoded
    return undecoded


def _is_unicode(text: str) -> bool:
    """Whether `text` has no lone UTF-16 surrogate, which a JSON escape can produce."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def list_systems(snapshot: Snapshot, limit: int, after: str | None) -> tuple[list[SystemFields], str | None]:
    """Up to `limit` systems with memories, by ascending id after `after`, and the `after` of the next page."""
    names = snapshot.terms["system_id"].names
    size = len(names)
    counts = np.zeros(size, np.int64)
    first, last, arrived = np.full(size, np.iinfo(np.int64).max), np.zeros(size, np.int64), np.zeros(size, np.int64)
    for tier in snapshot.tiers.values():
        for part in tier.parts:
            visible = slice(None) if part.hidden is None else ~part.hidden
            codes = part.codes["system_id"][visible]
            counts += np.bincount(codes, minlength=size)[:size]
            np.minimum.at(first, codes, part.occurred_us[visible])
            np.maximum.at(last, codes, part.occurred_us[visible])
            np.maximum.at(arrived, codes, part.arrived_us[visible])
    ordered = sorted(
        (names[code], int(code)) for code in np.flatnonzero(counts) if after is None or names[code] > after
    )
    page: list[SystemFields] = [
        {
            "system_id": name,
            "memories": int(counts[code]),
            "first_occurred_at": to_datetime(int(first[code])),
            "last_occurred_at": to_datetime(int(last[code])),
            "last_arrived_at": to_datetime(int(arrived[code])),
        }
        for name, code in ordered[:limit]
    ]
    return page, ordered[limit - 1][0] if len(ordered) > limit else None
