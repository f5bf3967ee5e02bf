"""Every error the lake raises on purpose. A loop decides on retry by type, never by message.

    LakeError
    ├── TransientError              try again later; nothing about the thing itself is wrong
    │   ├── StoreUnavailable        object store or table did not answer
    │   │   ├── DataFileUnreadable  one data file of a table is gone or damaged
    │   │   └── TableUnreadable     a table that was written to has no log now
    │   ├── LedgerUnavailable       the ledger's database did not answer, is locked or full
    │   ├── LocalStorageFailed      this machine's own disk or memory file system failed or is full
    │   ├── ClockWrong              this machine's clock is before any time that it can be
    │   ├── TierUnavailable         the answer needs a tier of which rows are missing here
    │   ├── LeaseLost               another run took the batch over; stop, write nothing
    │   ├── TableContended          commits kept conflicting until the retries were used up
    │   ├── WorkerUnavailable       no extraction worker could be started
    │   └── OrchestratorUnavailable Dagster or Mahavishnu did not answer
    ├── UploadRejected              this upload can never be taken in as it is: quarantine, with a reason code
    ├── InvalidRequest              the caller asked for something impossible
    ├── NotFound                    the thing asked for is not there
    ├── RecallBelowPolicy           a day would lose more recall in its next tier than the policy allows; it stays
    ├── MoveUnverified              what was written is not what was read; nothing was removed
    ├── BackupDamaged               a backup does not hold what it promised
    ├── EmbeddingUnavailable        no embedding model can be loaded here
    ├── LedgerDamaged               the ledger's file cannot be read as a ledger
    ├── InvalidSettings             an environment variable holds what cannot be
    ├── TableLost                   a table that was written to is gone or went back
    └── LedgerMismatch              the ledger does not belong to these tables

The HTTP status of each is in `akosha_api/errors.py`.
"""

import re
from collections.abc import Mapping
from datetime import date, datetime

from akosha_assets.lake.storable_text import escape_unstorable

# A library of Rust that failed within a task appends where in its machine code that was.
BACKTRACE = re.compile(r"^[ \t]*0: ", re.MULTILINE)
BACKTRACE_TITLE = re.compile(r"\n[ \t]*(stack )?backtrace:?$", re.IGNORECASE)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class LakeError(Exception):
    """Base of every deliberate error."""


def clean_cause(cause: str) -> str:
    """What another library said went wrong, on one line, without its backtrace and its colours."""
    # The cause may hold what a stranger sent. Where its backtrace begins is found in one pass; one expression for all
    # of it takes the cube of a run of line ends.
    found = BACKTRACE.search(cause, cause.find("\n") + 1) if "\n" in cause else None
    if found is not None:
        cause = BACKTRACE_TITLE.sub("", cause[: found.start()].rstrip()).rstrip()
    return " ".join(COLOUR.sub("", cause).split()).removesuffix(".")


class TransientError(LakeError):
    """Worth another try without any change."""


class StoreUnavailable(TransientError):
    """The object store at `url` did not answer within its time and retries."""

    def __init__(self, url: str, cause: str):
        self.url = url
        super().__init__(self.describe(clean_cause(cause)))

    def describe(self, cause: str) -> str:
        """The message."""
        return f"object store {self.url} did not answer: {cause}. Nothing is lost; try again."


class DataFileUnreadable(StoreUnavailable):
    """The store answers, and a data file of the table at `url` is gone, damaged or not what the log says."""

    def describe(self, cause: str) -> str:
        """The message."""
        return (
            f"a data file of the table {self.url} cannot be read: {cause}. Its rows are left out; put the file back or "
            "restore a backup: docs/runbooks/restore-from-backup.md has the steps."
        )


class TableUnreadable(StoreUnavailable):
    """The store answers, and a table that was written to, or the version asked for, has no log."""

    def describe(self, cause: str) -> str:
        """The message."""
        return f"the table {self.url} {cause}. If it stays so: docs/runbooks/hot-tier-loss.md has the steps."


class LedgerUnavailable(TransientError):
    """The ledger at `url` (without its password) did not answer."""

    def __init__(self, url: str, cause: str):
        self.url = url
        super().__init__(
            f"the ledger {url} did not answer: {clean_cause(cause)}. Nothing is lost; try again when it does."
        )


class LocalStorageFailed(TransientError):
    """A file operation of this machine failed for a reason outside of every upload: full, read-only, no permission, I/O
    error.
    """

    def __init__(self, cause: str):
        super().__init__(
            f"a file operation on this machine failed: {clean_cause(cause)}. Nothing is lost; free or repair the "
            "disk and try again."
        )


class ClockWrong(TransientError):
    """This machine's clock is before any time that it can be. Rows that it dates would be given wrong days."""

    def __init__(self, now: datetime):
        super().__init__(
            f"this machine's clock is at {now:%Y-%m-%d %H:%M} UTC, which cannot be. Nothing was changed, and uploads "
            "wait; set the clock."
        )


class TierUnavailable(TransientError):
    """`what` cannot be done without the tiers of `missing`, which says why each is not whole."""

    def __init__(self, what: str, missing: Mapping[str, str]):
        self.missing = dict(missing)
        reason = "; ".join(f"{tier} {clean_cause(reason)}" for tier, reason in missing.items())
        super().__init__(f"{what}: {reason}. Ask again once `tiers` in /health says that it is answered or empty.")


class LeaseLost(TransientError):
    """Batch `batch_id` is no longer ours; its uploads belong to whoever claims them next."""

    def __init__(self, batch_id: int):
        self.batch_id = batch_id
        super().__init__(
            f"batch {batch_id} lost its lease; nothing more is written for it and its uploads are claimed again."
        )


class TableContended(TransientError):
    """Every one of `attempts` commits to `table` met a concurrent change."""

    def __init__(self, table: str, attempts: int, cause: str):
        self.table = table
        super().__init__(
            f"table {table} was changed under each of {attempts} commits (last: {clean_cause(cause)}). The work is "
            "kept and tried again."
        )


class WorkerUnavailable(TransientError):
    """An extraction worker could not be started."""


class OrchestratorUnavailable(TransientError):
    """The orchestrator at `url` did not answer, or refused."""

    def __init__(self, url: str, cause: str):
        self.url = url
        super().__init__(
            f"the orchestrator at {url} did not answer: {cause}. Ingestion goes on without it: `akosha ingest --once`."
        )


class UploadRejected(LakeError):
    """The upload itself is at fault. `reason` is one of `REASONS`, `message` says what was found and expected."""

    def __init__(self, reason: str, message: str, sample: str = ""):
        if reason not in REASONS:
            raise ValueError(f"unknown reason code {reason!r}")
        # They quote what an upload holds, which may be half a UTF-16 pair or a NUL.
        self.reason, self.message, self.sample = reason, escape_unstorable(message), escape_unstorable(sample)
        super().__init__(f"{reason}: {self.message}")


class InvalidSettings(LakeError):
    """Environment variables hold what cannot be; the message names each, its value and what was expected."""


class InvalidRequest(LakeError):
    """`field` holds something that cannot be; the message says what was expected."""

    def __init__(self, field: str, message: str):
        self.field = field
        super().__init__(f"{field}: {message}")


class NotFound(LakeError):
    """There is no `what` named `name`, as far as was looked; `unasked` says where it was not."""

    def __init__(self, what: str, name: str, unasked: str | None = None):
        self.what, self.name = what, name
        super().__init__(f"no {what} {name!r}{f' where was looked: {unasked}' if unasked else ''}")


class AmbiguousUpload(LakeError):
    """Several systems have an upload named `upload_id`; `found` has the id of each system and the state of its upload,
    by system id.
    """

    def __init__(self, upload_id: str, found: dict[str, str]):
        self.upload_id, self.found = upload_id, found
        super().__init__(
            f"{len(found)} systems have an upload {upload_id!r}; expected system_id to say whose is asked for"
        )


class RecallBelowPolicy(LakeError):
    """The probes of `day`, asked of its `tier` form, find too few of what they find in the old form."""

    def __init__(self, day: date, tier: str, recall: float, required: float, probes: int):
        self.day, self.tier, self.recall, self.required, self.probes = day, tier, recall, required, probes
        super().__init__(
            f"{day} stays where it is: recall@10 of its {tier} form is {recall:.3f}, {required - recall:.3f} under "
            f"the {required:.3f} that "
            f"AKOSHA_{tier.upper()}_RECALL asks for ({probes} probes). Look at the day's vectors, or lower the setting."
        )


class MoveUnverified(LakeError):
    """Reading `day` back from `tier` gave something else than was written; its old form is kept."""

    def __init__(self, day: date, tier: str, expected: object, found: object):
        self.day, self.tier = day, tier
        super().__init__(
            f"{day} in {tier} reads back as {found}, expected {expected}; nothing was removed. Age the day again."
        )


class BackupDamaged(LakeError):
    """Part `name` of a backup is not what was copied."""

    def __init__(self, backup: str, name: str, found: str, expected: str):
        self.backup, self.name = backup, name
        super().__init__(
            f"backup {backup}: {name} holds {found}, expected {expected}. Restore an older backup, and make a new "
            "one now."
        )


class EmbeddingUnavailable(LakeError):
    """Text cannot be turned into vectors on this machine; the message says what was tried and what would help."""


class LedgerDamaged(LakeError):
    """What lies at `url` cannot be read as a ledger."""

    def __init__(self, url: str, cause: str):
        self.url = url
        super().__init__(
            f"the ledger {url} is damaged: {clean_cause(cause)}. Move its file away together with those beside it "
            "that end in -wal and -shm, "
            "then run `akosha ledger rebuild`; docs/runbooks/ledger-loss.md has the steps."
        )


class TableLost(LakeError):
    """A table that was written to is gone, has no log, was made anew or went back to an older version. Nothing is
    written to it.
    """

    def __init__(self, uri: str, found: str):
        self.uri = uri
        super().__init__(
            f"the table at {uri} {found}. Nothing was changed, and uploads wait. Put the table back, run "
            "`akosha repair`, "
            "restore a backup, or replay the inbox: docs/runbooks/hot-tier-loss.md has the steps."
        )


class LedgerMismatch(LakeError):
    """The ledger is empty or belongs to other tables, so ingestion would store everything twice."""


REASONS = {
    "system_id_invalid": (
        "The system id in the object key is not 1 to 100 letters, digits, dots, dashes or underscores."
    ),
    "upload_id_invalid": "The upload id in the object key cannot be a name of an upload.",
    "manifest_not_json": "The manifest is not a JSON object.",
    "manifest_invalid": "The manifest lacks what is needed or contradicts its own object key.",
    "file_missing": "The manifest lists a file that does not lie in the upload.",
    "file_not_regular": "A file of the upload is a symbolic link or something else that is not a plain file.",
    "file_too_large": "The files of the upload are larger than `AKOSHA_UPLOAD_MAX_BYTES` together.",
    "file_too_large_raw": (
        "The files of the upload are larger than `AKOSHA_UPLOAD_MAX_RAW_BYTES` together after decompression."
    ),
    "gzip_damaged": "A gzip file ends early or fails its checksum.",
    "database_unreadable": "A file is neither a DuckDB nor a SQLite database that can be opened.",
    "database_hostile": "A table that is read is a view, or a column is computed when it is read.",
    "too_many_rows": "The upload has more rows than `AKOSHA_UPLOAD_MAX_ROWS`.",
    "too_many_tables": "A database has more than 1,000 tables.",
    "too_many_columns": "A table has more columns than `AKOSHA_UPLOAD_MAX_COLUMNS`.",
    "too_many_event_days": "The rows to store fall on more event days than `AKOSHA_UPLOAD_MAX_EVENT_DAYS`.",
    "field_too_large": "A text field is larger than `AKOSHA_UPLOAD_MAX_FIELD_BYTES`.",
    "column_type_unexpected": (
        "A column that is needed is missing or has a type that cannot be turned into the expected one."
    ),
    "row_without_id": "A row has no id.",
    "worker_timeout": "The upload took longer than `AKOSHA_UPLOAD_SECONDS` to read.",
    "worker_memory": "Reading the upload needed more memory than `AKOSHA_WORKER_MEMORY_BYTES`.",
    "worker_crashed": "The process that read the upload died.",
    "attempts_exhausted": "The upload failed `AKOSHA_MAX_ATTEMPTS` times for reasons outside itself.",
}
