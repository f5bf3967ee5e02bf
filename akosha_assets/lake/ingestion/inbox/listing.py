"""Finds uploads by listing the inbox, for a bounded time per tick, and adds them to the ledger.

Each call continues where the last one paused; after the last key it starts again. So nothing depends on the order of
keys or on clocks. Notifications find uploads sooner (`notifications.py`); a sweep finds what they missed.
"""

import logging
import time
from dataclasses import dataclass, field, replace
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
from akosha_assets.lake.ingestion.ledger.found_uploads import FoundUpload, describe_objects
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.snapshot_times import snapshot_time
from akosha_assets.lake.ingestion.uploads import ROOT, ManifestPart, part_of
from akosha_assets.lake.objects import Object, ObjectStore, log_skipped
from akosha_assets.lake.settings import LakeSettings

# Uploads that are added to the ledger in one transaction.
UPLOADS_AT_ONCE = 5000
# An upload may have any number of objects. After its deadline, a sweep lists at most this many to complete an upload.
OBJECTS_PER_UPLOAD = 10_000
# Skipped entries that a sweep names in the log.
SKIPPED_LOGGED = 10
REASON_CHARACTERS = 2000

NEVER = datetime.max.replace(tzinfo=UTC)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sweep:
    """The result of one sweep: `listed` objects, `added` uploads that became known or complete, whether it reached the
    end of the inbox, and `skipped` entries of a folder that cannot be objects.
    """

    listed: int
    added: int
    finished: bool
    skipped: int = 0


@dataclass
class UploadObjects:
    """The objects of one upload that were listed so far. A listing returns them consecutively."""

    part: ManifestPart
    objects: int = 0
    bytes: int = 0
    revision: str = ""
    oldest: datetime = NEVER
    # `NAME\0ETAG` of each object beside the one that completes the upload, in key order.
    others: list[str] = field(default_factory=list)
    # Whether objects of the upload may be missing here: the listing began or ended among them.
    is_partial: bool = False

    def add(self, part: ManifestPart, item: Object) -> None:
        """Counts `item`."""
        self.objects += 1
        self.bytes += item.size_bytes
        self.oldest = min(self.oldest, item.modified_at)
        if part.completes:
            self.revision = item.etag
        else:
            self.others.append(f"{part.name}\0{item.etag}")

    def to_upload(self, now: datetime) -> FoundUpload:
        """Returns the upload for the ledger. Without the object that completes it, it is still arriving."""
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
            objects="" if self.is_partial or part.layout == "bare" else describe_objects(self.others),
        )


def sweep(settings: LakeSettings, ledger: Ledger, *, now: datetime, whole: bool = False) -> Sweep:
    """Adds the uploads of the next part of the inbox to the ledger, for `tick_seconds`; of all of it if `whole`.

    Records the beginning and the outcome of the sweep (`sweep_record.py`), also if it fails.

    Raises:
        StoreUnavailable: the inbox did not answer, or its folder does not exist. Uploads that were found before that
            are in the ledger.
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
        # The ledger itself may have failed; the first error is raised.
        logger.warning("the outcome of a sweep could not be recorded", extra={"cause": str(second)})


def check_folder(settings: LakeSettings, ledger: Ledger) -> None:
    """Checks that a folder inbox exists, and that it has its folder `systems` if there ever was an upload.

    Raises:
        StoreUnavailable: one of them is missing, as when a file system is not mounted.
    """
    folder = ObjectStore(settings.inbox()).folder
    if folder is None:
        return
    if missing_inbox(settings) is not None:
        raise StoreUnavailable(
            settings.inbox(),
            f"there is no folder {folder}; mount its file system, create it, or set AKOSHA_INBOX_URL to where the "
            "fleet uploads",
        )
    if not (folder / ROOT).is_dir() and ledger.uploads(limit=1).uploads:
        raise StoreUnavailable(
            settings.inbox(), f"{folder} had uploads and has no folder {ROOT!r} now; is its file system mounted?"
        )


def _sweep(settings: LakeSettings, ledger: Ledger, now: datetime, whole: bool, start: str) -> Sweep:
    check_folder(settings, ledger)
    deadline = float("inf") if whole else time.monotonic() + settings.tick_seconds
    listed = added = 0
    finished = True
    last = start
    found: list[FoundUpload] = []
    group: UploadObjects | None = None
    skipped = _Skipped()
    for item in ObjectStore(settings.inbox()).list(ROOT, after=start, on_skipped=skipped.add):
        listed += 1
        part = part_of(item.key)
        if group is not None and (part is None or part.prefix != group.part.prefix):
            found.append(group.to_upload(now))
            group = None
            if time.monotonic() > deadline:
                finished = False
                break
            if len(found) >= UPLOADS_AT_ONCE:
                added += ledger.add(found, found_by="listing", now=now)
                found = []
        last = item.key
        if part is not None:
            group = group or UploadObjects(part, is_partial=start.startswith(f"{part.prefix}/"))
            group.add(part, item)
        if (
            listed % OBJECTS_PER_UPLOAD == 0
            and time.monotonic() > deadline
            and (group is None or group.objects >= OBJECTS_PER_UPLOAD)
        ):
            finished = False
            break
    if group is not None:
        group.is_partial = group.is_partial or not finished
        found.append(group.to_upload(now))
    added += ledger.add(found, found_by="listing", now=now)
    if not whole and (start or not finished):
        # Quoted, because the name of a file may not be Unicode.
        ledger.remember("sweep_after", "" if finished else quote(last, errors="surrogateescape"))
    if skipped.count:
        ledger.count("inbox_entries_skipped", skipped.count)
    return Sweep(listed, added, finished, skipped.count)


class _Skipped:
    """Counts the entries of a folder that cannot be listed, and logs the first of them."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, key: str, reason: str) -> None:
        """Counts an entry."""
        self.count += 1
        if self.count <= SKIPPED_LOGGED:
            log_skipped(key, reason)
