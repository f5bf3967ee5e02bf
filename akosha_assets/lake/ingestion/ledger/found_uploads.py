"""Uploads as discovery found them, and what each changes in the ledger.

Objects of one upload may come in any order: the manifest before a database, a file in two writes, a replica of a bucket
that copies them as it likes. And an object may be written again at any time. So an upload is compared with the objects
that were listed when it was last added, and one that could not be ingested is tried again whenever they change.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Any

from akosha_assets.lake.ingestion.ledger.states import UploadState
from akosha_assets.lake.reasons import REASONS, Reason

# The object keys have these reasons, which no new content mends.
INVALID_NAMES = frozenset((Reason.SYSTEM_ID_INVALID, Reason.UPLOAD_ID_INVALID))

# The columns of an upload that nothing has gone wrong with.
UNTRIED: dict[str, Any] = {
    "state": UploadState.WAITING,
    "reason": None,
    "message": None,
    "sample": None,
    "attempts": 0,
    "not_before": None,
    "batch_limit": 1_000_000,
}


@dataclass(frozen=True, slots=True)
class FoundUpload:
    """One upload as discovery found it; `revision` is empty while the object that completes it is missing.

    `objects` describes the other objects (`describe_objects`); empty if they were not all listed.
    """

    system_id: str
    upload_id: str
    layout: str
    prefix: str
    revision: str
    bytes: int
    snapshot_at: datetime
    reason: str = ""
    objects: str = ""


@dataclass(frozen=True, slots=True)
class KnownUpload:
    """The newest row of the ledger for a prefix."""

    id: int
    revision: str
    state: UploadState
    reason: str | None
    objects: str | None


class Change(Enum):
    """What a found upload changes."""

    NONE = auto()
    # A row of its own: it was unknown, or its objects were written again after they were ingested.
    ADDED = auto()
    # Its manifest has come.
    COMPLETED = auto()
    # It could not be ingested with the objects it had, and has others now: the same row waits again.
    RETRIED = auto()
    # It waits, and has other objects now.
    REFRESHED = auto()
    # A ledger of an earlier version has no description of its objects.
    DESCRIBED = auto()

    @property
    def is_arrival(self) -> bool:
        """Whether an upload waits or arrives because of it that did not before."""
        return self in (Change.ADDED, Change.COMPLETED, Change.RETRIED)


def describe_objects(etags: list[str]) -> str:
    """The number of objects and a digest of their names and entity tags: `NAME\\0ETAG` of each, in key order."""
    text = "\0".join(etags).encode("utf-8", "surrogateescape")
    return f"{len(etags)} {hashlib.blake2b(text, digest_size=8).hexdigest()}"


def etag_of(revision: str) -> str:
    """The entity tag of the completing object of a revision."""
    return revision.partition(" ")[0]


def revision_of(found: FoundUpload, known: KnownUpload | None) -> str:
    """The revision of a new row: the completing object alone does not tell it from `known` if it is the same."""
    if known is None or etag_of(known.revision) != found.revision:
        return found.revision
    return f"{found.revision} {found.objects.partition(' ')[2]}"


def decide(found: FoundUpload, known: KnownUpload | None, *, is_old_revision: bool) -> Change:
    """What `found` changes. `is_old_revision`: the ledger has a row with its revision, which need not be `known`."""
    if known is None:
        return Change.ADDED
    if not found.revision:
        return Change.NONE
    if not known.revision:
        return Change.COMPLETED
    has_same_manifest = etag_of(known.revision) == found.revision
    if has_same_manifest and found.objects in ("", known.objects):
        return Change.NONE
    if has_same_manifest and known.objects is None:
        return Change.DESCRIBED
    if not has_same_manifest and is_old_revision:
        return Change.NONE
    if known.state in (UploadState.ARRIVING, UploadState.QUARANTINED):
        return Change.NONE if known.reason in INVALID_NAMES else Change.RETRIED
    if not has_same_manifest:
        return Change.ADDED
    if known.state == UploadState.WAITING:
        return Change.REFRESHED
    # Its batch may have read either state; the next listing after the batch tells. Objects that are missing were
    # removed: expiry removes the manifest last.
    is_complete = known.state == UploadState.INGESTED and _count(found.objects) >= _count(known.objects or "")
    return Change.ADDED if is_complete else Change.NONE


def _count(objects: str) -> int:
    return int(objects.partition(" ")[0] or 0)


def columns_of(found: FoundUpload, known: KnownUpload | None, change: Change, now: datetime) -> dict[str, Any]:
    """The columns that a found upload sets."""
    objects: dict[str, Any] = {"objects": found.objects or None}
    if change is Change.DESCRIBED:
        return objects
    contents = {"bytes": found.bytes, **objects}
    if change is Change.REFRESHED:
        return contents | {"not_before": None}
    contents |= {"upload_id": found.upload_id, "snapshot_at": found.snapshot_at}
    arrived = {"seen_at": now, "arrival_day": now.date()}
    if change is Change.RETRIED:
        assert known is not None
        is_new_manifest = etag_of(known.revision) != found.revision
        contents |= {**UNTRIED, "requeued_at": now, "revision": found.revision if is_new_manifest else known.revision}
        # What was still arriving has arrived now.
        return contents | (arrived if known.state == UploadState.ARRIVING else {})
    return {
        **contents,
        **arrived,
        "system_id": found.system_id,
        "layout": found.layout,
        "prefix": found.prefix,
        "revision": found.revision,
        "state": _first_state(found),
        "reason": found.reason or None,
        "message": f"{found.prefix}: {REASONS[found.reason]}" if found.reason else None,
    }


def _first_state(found: FoundUpload) -> UploadState:
    if found.reason:
        return UploadState.QUARANTINED
    return UploadState.WAITING if found.revision else UploadState.ARRIVING
