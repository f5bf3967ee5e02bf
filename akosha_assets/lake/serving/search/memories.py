"""Plain reads: one memory with everything its table holds, and the systems that have memories."""

import json
from typing import Any

import numpy as np

from akosha_assets.lake import tables
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import StoreUnavailable
from akosha_assets.lake.serving.query import Identity
from akosha_assets.lake.serving.search.results import at, result
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


def memory(lake: Lake, snapshot: Snapshot, identity: Identity, *, is_past: bool = False) -> dict[str, Any]:
    """One memory from the hottest tier that holds it. `is_past`: the snapshot is not of the newest versions.

    Raises:
        NotFound: no tier has it.
        TierUnavailable: it may be in a tier that is not served as its table is.
        StoreUnavailable: its table could not be read.
    """
    place = snapshot.find(identity)
    if place is None:
        raise snapshot.missing(identity)
    tier, part, row = place
    found = result(tier, part, row, part.payload.value("text", row), snapshot.terms)
    day, *name = (_literal(value) for value in (part.day.isoformat(), identity.system_id, identity.kind, identity.id))
    where = f"event_day = {day} AND system_id = {name[0]} AND kind = {name[1]} AND id = {name[2]}"
    columns = [name for name in (*PROVENANCE, "attributes") if name in lake.spec(f"lifecycle/{tier}").schema.names]
    table = lake.open(f"lifecycle/{tier}", snapshot.tiers[tier].version if is_past else None)
    if table is None:
        raise StoreUnavailable(lake.uri(f"lifecycle/{tier}"), "the log of the table, or of this version, is gone")
    stored = tables.select(table, columns, lake.spec(f"lifecycle/{tier}").schema, where).to_pylist()
    # A row that was moved or rewritten this instant is answered with what the replica holds of it.
    rest = max(stored, key=lambda held: held["snapshot_at"]) if stored else {"upload_id": found["upload_id"]}
    space = next((space for space, held in part.vectors.items() if held.of_row(row) is not None), None)
    attributes = decode_attributes(rest["attributes"]) if rest.get("attributes") else None
    provenance = {column: rest[column] for column in PROVENANCE if column in rest}
    return found | {"attributes": attributes, "provenance": provenance, "has_vector": space is not None, "space": space}


def decode_attributes(text: str) -> dict[str, Any]:
    """The attributes of a row; as `{"_json": text}` where no answer could carry them: nested too deeply, or not valid
    JSON and Unicode.
    """
    whole = {"_json": text}
    try:
        decoded = json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return whole
    if not isinstance(decoded, dict):
        return whole
    level: list[Any] = [decoded]
    for _ in range(ATTRIBUTES_MAX_DEPTH):
        keys = [key for value in level if isinstance(value, dict) for key in value]
        level = [inner for value in level for inner in (value.values() if isinstance(value, dict) else value)]
        if not all(_is_unicode(one) for one in (*keys, *level) if isinstance(one, str)):
            return whole
        level = [value for value in level if isinstance(value, dict | list)]
        if not level:
            return decoded
    return whole


def _is_unicode(text: str) -> bool:
    """Whether no escape of the JSON stands for half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def systems(snapshot: Snapshot, limit: int, after: str | None) -> tuple[list[dict[str, Any]], str | None]:
    """Up to `limit` systems whose id sorts after `after`, with counts and times, and the cursor of the next page."""
    names = snapshot.terms["system_id"].names
    size = len(names)
    counts = np.zeros(size, np.int64)
    first, last, arrived = np.full(size, np.iinfo(np.int64).max), np.zeros(size, np.int64), np.zeros(size, np.int64)
    for tier in snapshot.tiers.values():
        for part in tier.parts:
            shown = slice(None) if part.hidden is None else ~part.hidden
            codes = part.codes["system_id"][shown]
            counts += np.bincount(codes, minlength=size)[:size]
            np.minimum.at(first, codes, part.occurred_us[shown])
            np.maximum.at(last, codes, part.occurred_us[shown])
            np.maximum.at(arrived, codes, part.arrived_us[shown])
    ordered = sorted(
        (names[code], int(code)) for code in np.flatnonzero(counts) if after is None or names[code] > after
    )
    page: list[dict[str, Any]] = [
        {
            "system_id": name,
            "memories": int(counts[code]),
            "first_occurred_at": at(int(first[code])),
            "last_occurred_at": at(int(last[code])),
            "last_arrived_at": at(int(arrived[code])),
        }
        for name, code in ordered[:limit]
    ]
    return page, ordered[limit - 1][0] if len(ordered) > limit else None


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
