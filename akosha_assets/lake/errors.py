"""All errors that the lake raises on purpose. Callers decide on a retry by type, never by message.

    LakeError
    ├── TransientError              a retry may succeed without any change
    │   ├── StoreUnavailable        object store or table did not answer
    │   │   ├── DataFileUnreadable  one data file of a table is gone or damaged
    │   │   └── TableUnreadable     a table that was written to has no log now
    │   ├── LedgerUnavailable       the ledger's database did not answer, is locked or full
    │   ├── LocalStorageFailed      this machine's own disk or memory file system failed or is full
    │   ├── ClockWrong              this machine's clock is impossibly early
    │   ├── TierUnavailable         the answer needs a tier that is not complete here
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
    ├── InvalidSettings             an environment variable has an invalid value
    ├── TableLost                   a table that was written to is gone, replaced or older
    └── LedgerMismatch              the ledger does not belong to these tables

The HTTP status of each is in `akosha_api/errors.py`.
"""

import re
from collections.abc import Mapping
from datetime import date, datetime

from akosha_assets.lake.storable_text import escape_unstorable

# Rust libraries append a backtrace of machine code to an error.
BACKTRACE = re.compile(r"^[ \t]*0: ", re.MULTILINE)
BACKTRACE_TITLE = re.compile(r"\n[ \t]*(stack )?backtrace:?$", re.IGNORECASE)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class LakeError(Exception):
    """Base of every deliberate error."""


def clean_cause(cause: str) -> str:
    """The message of another library on one line, without backtrace and colours."""
    # The message may contain uploaded text. One pass finds the backtrace; a single expression for all of it takes
    # cubic time for a run of line ends.
    backtrace = BACKTRACE.search(cause, cause.find("\n") + 1) if "\n" in cause else None
    if backtrace is not None:
        cause = BACKTRACE_TITLE.sub("", cause[: backtrace.start()].rstrip()).rstrip()
    return " ".join(COLOUR.sub("", cause).split()).removesuffix(".")


class TransientError(LakeError):
    """A retry may succeed without any change."""


class StoreUnavailable(TransientError):
    """The object store at `url` did not answer within its time and retries."""

    def __init__(self, url: str, cause: str):
        self.url = url
        super().__init__(self.describe(clean_cause(cause)))

    def describe(self, cause: str) -> str:
        """The message."""
        return f"object store {self.url} did not answer: {cause}. Nothing is lost; try again."


class DataFileUnreadable(StoreUnavailable):
    """The store answers, but a data file of the table at `url` is missing, damaged or not as the log says."""

    def describe(self, cause: str) -> str:
        """The message."""
        return (
            f"a data file of the table {self.url} cannot be read: {cause}. Its rows are left out; put the file back or "
            "restore a backup: docs/runbooks/restore-from-backup.md has the steps."
        )


class TableUnreadable(StoreUnavailable):
    """The store answers, but a table that was written to, or the requested version, has no log."""

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
    """A file operation on this machine failed (disk full, read-only, permission, I/O error); no upload is at fault."""

    def __init__(self, cause: str):
        super().__init__(
            f"a file operation on this machine failed: {clean_cause(cause)}. Nothing is lost; free or repair the "
            "disk and try again."
        )


class ClockWrong(TransientError):
    """This machine's clock is impossibly early; rows without a time of their own would get wrong days."""

    def __init__(self, now: datetime):
        super().__init__(
            f"this machine's clock is at {now:%Y-%m-%d %H:%M} UTC, which is impossible. Nothing was changed, and "
            "uploads wait; set the clock."
        )


class TierUnavailable(TransientError):
    """`what` needs tiers that are not complete; `missing` has the reason by tier."""

    def __init__(self, what: str, missing: Mapping[str, str]):
        self.missing = dict(missing)
        reason = "; ".join(f"{tier} {clean_cause(reason)}" for tier, reason in missing.items())
        super().__init__(f"{what}: {reason}. Ask again once `tiers` in /health says that it is answered or empty.")


class LeaseLost(TransientError):
    """This run no longer holds batch `batch_id`; the next claim takes its uploads."""

    def __init__(self, batch_id: int):
        self.batch_id = batch_id
        super().__init__(
            f"batch {batch_id} lost its lease; nothing more is written for it and its uploads are claimed again."
        )


class TableContended(TransientError):
    """Each of `attempts` commits to `table` conflicted with another commit."""

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
    """The upload is at fault. `reason` is one of `REASONS`; `message` says what was found and expected."""

    def __init__(self, reason: str, message: str, sample: str = ""):
        if reason not in REASONS:
            raise ValueError(f"unknown reason code {reason!r}")
        # Both quote uploaded text, which may contain a lone surrogate or a NUL.
        self.reason, self.message, self.sample = reason, escape_unstorable(message), escape_unstorable(sample)
        super().__init__(f"{reason}: {self.message}")


class InvalidSettings(LakeError):
    """Environment variables have invalid values; the message names each, its value and what was expected."""


class InvalidRequest(LakeError):
    """`field` has an invalid value; the message says what was expected."""

    def __init__(self, field: str, message: str):
        self.field = field
        super().__init__(f"{field}: {message}")


class NotFound(LakeError):
    """There is no `what` named `name`; `unasked` names the places that could not be searched."""

    def __init__(self, what: str, name: str, unasked: str | None = None):
        self.what, self.name = what, name
        super().__init__(f"no {what} {name!r}{f' where was looked: {unasked}' if unasked else ''}")


class AmbiguousUpload(LakeError):
    """Several systems have an upload named `upload_id`; `found` has the state of each upload by system id."""

    def __init__(self, upload_id: str, found: dict[str, str]):
        self.upload_id, self.found = upload_id, found
        super().__init__(f"{len(found)} systems have an upload {upload_id!r}; expected system_id to name one of them")


class RecallBelowPolicy(LakeError):
    """The recall of the probes of `day` in its `tier` form is below the policy."""

    def __init__(self, day: date, tier: str, recall: float, required: float, probes: int):
        self.day, self.tier, self.recall, self.required, self.probes = day, tier, recall, required, probes
        super().__init__(
            f"{day} stays where it is: recall@10 of its {tier} form is {recall:.3f}, {required - recall:.3f} under "
            f"the {required:.3f} that "
            f"AKOSHA_{tier.upper()}_RECALL asks for ({probes} probes). Look at the day's vectors, or lower the setting."
        )


class MoveUnverified(LakeError):
    """The rows of `day` read back from `tier` differ from the rows written; its old form is kept."""

    def __init__(self, day: date, tier: str, expected: object, found: object):
        self.day, self.tier = day, tier
        super().__init__(
            f"{day} in {tier} reads back as {found}, expected {expected}; nothing was removed. Age the day again."
        )


class BackupDamaged(LakeError):
    """The file `name` of a backup is missing or differs from the file that was copied."""

    def __init__(self, backup: str, name: str, found: str, expected: str):
        self.backup, self.name = backup, name
        super().__init__(
            f"backup {backup}: {name} holds {found}, expected {expected}. Restore an older backup, and make a new "
            "one now."
        )


class EmbeddingUnavailable(LakeError):
    """No embedding model can be loaded on this machine; the message says what was tried and what would help."""


class LedgerDamaged(LakeError):
    """The database at `url` cannot be read as a ledger."""

    def __init__(self, url: str, cause: str):
        self.url = url
        super().__init__(
            f"the ledger {url} is damaged: {clean_cause(cause)}. Move its file away, with those beside it that "
            "end in -wal and -shm, then run `akosha ledger rebuild`; docs/runbooks/ledger-loss.md has the steps."
        )


class TableLost(LakeError):
    """A table that was written to is gone, has no log, was replaced or went back to an older version.

    Nothing is written to it.
    """

    def __init__(self, uri: str, found: str):
        self.uri = uri
        super().__init__(
            f"the table at {uri} {found}. Nothing was changed, and uploads wait. Put the table back, run "
            "`akosha repair`, restore a backup, or replay the inbox: docs/runbooks/hot-tier-loss.md has the steps."
        )


class LedgerMismatch(LakeError):
    """The ledger is empty or belongs to other tables; ingestion would store every row again."""


REASONS = {
    "system_id_invalid": (
        "The system id in the object key is not 1 to 100 letters, digits, dots, dashes or underscores."
    ),
    "upload_id_invalid": "The upload id in the object key is not a valid name.",
    "manifest_not_json": "The manifest is not a JSON object.",
    "manifest_invalid": "The manifest lacks a required field or contradicts its object key.",
    "file_missing": "The manifest lists a file that the upload does not have.",
    "file_not_regular": "A file of the upload is a symbolic link or something else that is not a plain file.",
    "file_too_large": "The files of the upload are larger than `AKOSHA_UPLOAD_MAX_BYTES` together.",
    "file_too_large_raw": (
        "The files of the upload are larger than `AKOSHA_UPLOAD_MAX_RAW_BYTES` together after decompression."
    ),
    "gzip_damaged": "A gzip file ends early or fails its checksum.",
    "database_unreadable": "A file is neither a DuckDB nor a SQLite database that can be opened.",
    "database_hostile": "A table is a view, or has a generated column.",
    "too_many_rows": "The upload has more rows than `AKOSHA_UPLOAD_MAX_ROWS`.",
    "too_many_tables": "A database has more than 1,000 tables.",
    "too_many_columns": "A table has more columns than `AKOSHA_UPLOAD_MAX_COLUMNS`.",
    "too_many_event_days": "The rows to store fall on more event days than `AKOSHA_UPLOAD_MAX_EVENT_DAYS`.",
    "field_too_large": "A text field is larger than `AKOSHA_UPLOAD_MAX_FIELD_BYTES`.",
    "column_type_unexpected": (
        "A required column is missing or has a type that cannot be converted to the expected one."
    ),
    "row_without_id": "A row has no id.",
    "worker_timeout": "The upload took longer than `AKOSHA_UPLOAD_SECONDS` to read.",
    "worker_memory": "Reading the upload needed more memory than `AKOSHA_WORKER_MEMORY_BYTES`.",
    "worker_crashed": "The process that read the upload died.",
    "attempts_exhausted": "The upload failed `AKOSHA_MAX_ATTEMPTS` times for reasons outside itself.",
}
