"""Finds uploads in the inbox by listing it, a bounded stretch at a time, and writes them into the ledger.

The sweep goes round: it starts where the last one paused and begins anew after the last key, so nothing depends on
keys or clocks being in order. Events find uploads sooner, see `notifications.py`; this finds what they missed.
"""

import logging
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from akosha_assets.lake.errors import LakeError, StoreUnavailable
from akosha_assets.lake.ingestion.inbox.folder import missing_inbox
from akosha_assets.lake.ingestion.inbox.sweep_record import (
    SWEEP_BEGAN,
    SweepOutcome,
    SweepRecord,
    record_end,
    write_record,
)
from akosha_assets.lake.ingestion.ledger import outages
from akosha_assets.lake.ingestion.ledger.ledger import FoundUpload, Ledger
from akosha_assets.lake.ingestion.snapshot_times import snapshot_time
from akosha_assets.lake.ingestion.uploads import ROOT, ManifestPart, part_of
from akosha_assets.lake.objects import Object, ObjectStore, log_skipped
from akosha_assets.lake.settings import LakeSettings

# A stretch of the listing that is looked up and committed together.
STRETCH_UPLOADS = 5000
# Somebody may put any number of objects under one upload; beyond this a sweep does not wait for the end of them.
PATIENCE_OBJECTS = 10_000
# Entries that a sweep skipped and names in the log.
SKIPPED_LOGGED = 10
REASON_CHARACTERS = 2000

NEVER = datetime.max.replace(tzinfo=UTC)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sweep:
    """What one sweep did: objects listed, uploads that became known or complete, whether it reached the end, entries of
    a folder that were skipped since they cannot be objects.
    """

    listed: int
    added: int
    finished: bool
    skipped: int = 0


@dataclass
class Gathering:
    """An upload while its objects pass by; they follow each other in a listing."""

    part: ManifestPart
    objects: int = 0
    bytes: int = 0
    revision: str = ""
    oldest: datetime = NEVER

    def add(self, part: ManifestPart, item: Object) -> None:
        """`item` is counted in."""
        self.objects += 1
        self.bytes += item.size_bytes
        self.oldest = min(self.oldest, item.modified_at)
        if part.completes:
            self.revision = item.etag

    def found(self, now: datetime) -> FoundUpload:
        """The upload as it was seen; without the object that completes it, it is still arriving."""
        part = self.part
        return FoundUpload(
            system_id=part.system_id,
            upload_id=f"{part.upload_id}@{self.revision}" if part.layout == "bare" else part.upload_id,
            layout=part.layout,
            prefix=part.prefix,
            revision=self.revision,
            bytes=self.bytes,
            snapshot_at=snapshot_time(part.upload_id, fallback=self.oldest, seen_at=now),
            reason=part.reason,
        )


def sweep(settings: LakeSettings, ledger: Ledger, *, now: datetime, whole: bool = False) -> Sweep:
    """Uploads of the next stretch of the inbox are in the ledger; stops after `tick_seconds`, or never when `whole`.

    The ledger has a record of the sweep's beginning and outcome (`sweep_record.py`), also where it failed.

    Raises:
        StoreUnavailable: the inbox did not answer, or its folder does not exist; what was found before is in the
            ledger.
    """
    start = "" if whole else unquote(ledger.remembered("sweep_after") or "", errors="surrogateescape")
    began = ledger.remembered(SWEEP_BEGAN) if start else None
    record = SweepRecord(datetime.fromisoformat(began) if began else now, now, SweepOutcome.RUNNING)
    try:
        with outages.recorded(ledger, "discovery"):
            write_record(ledger, record)
            if not whole and not began:
                ledger.remember(SWEEP_BEGAN, now.isoformat())
            swept = _sweep(settings, ledger, now, whole, start)
    except Exception as error:
        _record_failure(ledger, record, error)
        raise
    if swept.finished:
        record_end(ledger, record.began_at, now)
    write_record(ledger, replace(record, outcome=SweepOutcome.ENDED if swept.finished else SweepOutcome.PAUSED))
    return swept


def _record_failure(ledger: Ledger, record: SweepRecord, error: Exception) -> None:
    try:
        write_record(ledger, replace(record, outcome=SweepOutcome.FAILED, reason=str(error)[:REASON_CHARACTERS]))
    except LakeError as second:
        # The ledger may be what is out; the error that is raised says so.
        logger.warning("the outcome of a sweep could not be recorded", extra={"cause": str(second)})


def check_folder(settings: LakeSettings, ledger: Ledger) -> None:
    """A folder inbox exists, and has its folder `systems` if anything was ever uploaded to it.

    Raises:
        StoreUnavailable: it does not, as where its file system is not mounted.
    """
    folder = ObjectStore(settings.inbox()).folder
    if folder is None:
        return
    if missing_inbox(settings) is not None:
        raise StoreUnavailable(
            settings.inbox(),
            f"there is no folder {folder}; mount its file system, create it, or set AKOSHA_INBOX_URL to where the fleet "
            "uploads",
        )
    if not (folder / ROOT).is_dir() and ledger.uploads(limit=1).uploads:
        raise StoreUnavailable(
            settings.inbox(), f"{folder} has no folder {ROOT!r} any more, and had uploads; is its file system mounted?"
        )


def _sweep(settings: LakeSettings, ledger: Ledger, now: datetime, whole: bool, start: str) -> Sweep:
    check_folder(settings, ledger)
    deadline = float("inf") if whole else time.monotonic() + settings.tick_seconds
    listed = added = 0
    finished = True
    last = start
    stretch: list[FoundUpload] = []
    group: Gathering | None = None
    skipped = _Skipped()
    for item in ObjectStore(settings.inbox()).list(ROOT, after=start, on_skipped=skipped.add):
        listed += 1
        part = part_of(item.key)
        if group is not None and (part is None or part.prefix != group.part.prefix):
            stretch.append(group.found(now))
            group = None
            if time.monotonic() > deadline:
                finished = False
                break
            if len(stretch) >= STRETCH_UPLOADS:
                added += ledger.add(stretch, found_by="listing", now=now)
                stretch = []
        last = item.key
        if part is not None:
            group = group or Gathering(part)
            group.add(part, item)
        if (
            listed % PATIENCE_OBJECTS == 0
            and time.monotonic() > deadline
            and (group is None or group.objects >= PATIENCE_OBJECTS)
        ):
            finished = False
            break
    if group is not None:
        stretch.append(group.found(now))
    added += ledger.add(stretch, found_by="listing", now=now)
    if not whole and (start or not finished):
        # Quoted, since the name of a file in a folder may be no Unicode.
        ledger.remember("sweep_after", "" if finished else quote(last, errors="surrogateescape"))
    if skipped.count:
        ledger.count("inbox_entries_skipped", skipped.count)
    return Sweep(listed, added, finished, skipped.count)


class _Skipped:
    """Entries of a folder that cannot be listed: all are counted, the first ones named in the log."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, key: str, reason: str) -> None:
        """One more was skipped."""
        self.count += 1
        if self.count <= SKIPPED_LOGGED:
            log_skipped(key, reason)
