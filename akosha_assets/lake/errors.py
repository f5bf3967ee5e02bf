"""Every error that the lake raises on purpose. Callers decide by type whether to retry, never by message.

    LakeError
    ├── TransientError              try again later without any change
    │   ├── StoreUnavailable        an object store or a table does not answer
    │   │   ├── DataFileUnreadable  a data file of a table is missing or damaged
    │   │   └── TableUnreadable     a table that was written to has no log now, or was replaced
    │   ├── LedgerUnavailable       the database of the ledger does not answer, is locked or full
    │   ├── LocalStorageFailed      the disk or the memory file system of this machine failed or is full
    │   ├── ClockWrong              the clock of this machine shows an impossible time
    │   ├── TierUnavailable         the answer needs a tier that is not complete here
    │   ├── LeaseLost               another run took over the batch; stop and write nothing
    │   ├── TableContended          every retry of a commit met a conflict
    │   ├── WorkerUnavailable       no extraction worker could be started
    │   └── OrchestratorUnavailable Dagster or Mahavishnu does not answer
    ├── UploadRejected              the upload can never be ingested as it is: quarantine, with a reason code
    ├── InvalidRequest              the request cannot be served as it is
    ├── NotFound                    the requested thing does not exist
    ├── RecallBelowPolicy           the recall of a day in its next tier is below the policy; the day stays
    ├── MoveUnverified              the rows written differ from the rows read; nothing was removed
    ├── BackupDamaged               a file of a backup is missing or changed
    ├── EmbeddingUnavailable        no embedding model can be loaded on this machine
    ├── LedgerDamaged               the file of the ledger cannot be read
    ├── InvalidSettings             an environment variable has an invalid value
    ├── TableLost                   a table that was written to is gone, was replaced or is older than it was
    └── LedgerMismatch              the ledger does not belong to these tables

The HTTP status of each is in `akosha_api/errors.py`.
"""

import re
from collections.abc import Mapping
from datetime import date, datetime

from akosha_assets.lake.reasons import Reason
from akosha_assets.lake.storable_text import escape_unstorable

# Libraries in Rust append a backtrace of their machine code.
BACKTRACE = re.compile(r"^[ \t]*0: ", re.MULTILINE)
BACKTRACE_TITLE = re.compile(r"\n[ \t]*(stack )?backtrace:?$", re.IGNORECASE)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class LakeError(Exception):
    """The base of every error that the lake raises on purpose."""


def clean_cause(cause: str) -> str:
    """The error text of another library on one line, without its backtrace and its colours."""
    # The cause may quote an upload. The start of the backtrace is found in one pass: one expression for all of it takes
    # the cube of the number of consecutive line ends.
    found = BACKTRACE.search(cause, cause.find("\n") + 1) if "\n" in cause else None
    if found is not None:
        cause = BACKTRACE_TITLE.sub("", cause[: found.start()].rstrip()).rstrip()
    return " ".join(COLOUR.sub("", cause).split()).removesuffix(".")


class TransientError(LakeError):
    """A later attempt may succeed without any change."""


class StoreUnavailable(TransientError):
    """The object store at `url` did not answer within its time and retries."""

    def __init__(self, url: str, cause: str):
        self.url = url
        super().__init__(self.describe(clean_cause(cause)))

    def describe(self, cause: str) -> str:
        """The message."""
        return f"object store {self.url} did not answer: {cause}. Nothing is lost; try again."


class DataFileUnreadable(StoreUnavailable):
    """The store answers, but a data file of the table at `url` is missing, damaged or differs from the log."""

    def describe(self, cause: str) -> str:
        """The message."""
        return (
            f"a data file of the table {self.url} cannot be read: {cause}. Its rows are left out; put the file back or "
            "restore a backup: docs/runbooks/restore-from-backup.md has the steps."
        )


class TableUnreadable(StoreUnavailable):
    """The store answers, but a table that was written to has no log, was replaced, or lacks the requested version."""

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
    """A file operation failed for a reason that no upload causes: disk full or read-only, no permission, I/O error."""

    def __init__(self, cause: str):
        super().__init__(
            f"a file operation on this machine failed: {clean_cause(cause)}. Nothing is lost; free or repair the "
            "disk and try again."
        )


class ClockWrong(TransientError):
    """The clock of this machine shows an impossible time. Rows would get wrong days."""

    def __init__(self, now: datetime):
        super().__init__(
            f"the clock of this machine is at {now:%Y-%m-%d %H:%M} UTC, which is impossible. Nothing was changed, and "
            "uploads wait; set the clock."
        )


class TierUnavailable(TransientError):
    """`what` cannot be done without the tiers of `missing`, a reason by tier."""

    def __init__(self, what: str, missing: Mapping[str, str]):
        self.missing = dict(missing)
        reason = "; ".join(f"{tier} {clean_cause(reason)}" for tier, reason in missing.items())
        super().__init__(f"{what}: {reason}. Ask again once `tiers` in /health says that it is answered or empty.")


class LeaseLost(TransientError):
    """This run no longer holds the lease of batch `batch_id`; its uploads can be claimed again."""

    def __init__(self, batch_id: int):
        self.batch_id = batch_id
        super().__init__(
            f"batch {batch_id} lost its lease; nothing more is written for it and its uploads are claimed again."
        )


class TableContended(TransientError):
    """Each of `attempts` commits to `table` met a conflicting commit."""

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
    """The upload itself is at fault. `message` says what was found and expected; `sample` quotes the upload."""

    def __init__(self, reason: Reason | str, message: str, sample: str = ""):
        self.reason = Reason(reason)
        # They quote the upload, which may contain half a UTF-16 pair or a NUL.
        self.message, self.sample = escape_unstorable(message), escape_unstorable(sample)
        super().__init__(f"{reason}: {self.message}")


class InvalidSettings(LakeError):
    """Environment variables have invalid values; the message names each, its value and what was expected."""


class InvalidRequest(LakeError):
    """The value of `field` is invalid; the message says what was expected."""

    def __init__(self, field: str, message: str):
        self.field = field
        super().__init__(f"{field}: {message}")


class NotFound(LakeError):
    """There is no `what` named `name`; `unasked` names places that could not be searched."""

    def __init__(self, what: str, name: str, unasked: str | None = None):
        self.what, self.name = what, name
        super().__init__(f"no {what} {name!r}{f' where was looked: {unasked}' if unasked else ''}")


class AmbiguousUpload(LakeError):
    """Several systems have an upload named `upload_id`; `found` has the state of each upload by system id."""

    def __init__(self, upload_id: str, found: dict[str, str]):
        self.upload_id, self.found = upload_id, found
        super().__init__(f"{len(found)} systems have an upload {upload_id!r}; expected system_id to name one of them")


class RecallBelowPolicy(LakeError):
    """The probes of `day` find too few of their old neighbours in its `tier` form."""

    def __init__(self, day: date, tier: str, recall: float, required: float, probes: int):
        self.day, self.tier, self.recall, self.required, self.probes = day, tier, recall, required, probes
        super().__init__(
            f"{day} stays where it is: recall@10 of its {tier} form is {recall:.3f}, {required - recall:.3f} under "
            f"the {required:.3f} that AKOSHA_{tier.upper()}_RECALL asks for ({probes} probes). Look at the day's "
            "vectors, or lower the setting."
        )


class MoveUnverified(LakeError):
    """The rows of `day` in `tier` do not read back as they were written; the old form stays."""

    def __init__(self, day: date, tier: str, expected: object, found: object):
        self.day, self.tier = day, tier
        super().__init__(
            f"{day} in {tier} reads back as {found}, expected {expected}; nothing was removed. Age the day again."
        )


class BackupDamaged(LakeError):
    """The part `name` of a backup differs from what was copied."""

    def __init__(self, backup: str, name: str, found: str, expected: str):
        self.backup, self.name = backup, name
        super().__init__(
            f"backup {backup}: {name} holds {found}, expected {expected}. Restore an older backup, and make a new "
            "one now."
        )


class EmbeddingUnavailable(LakeError):
    """Text cannot be embedded on this machine; the message says what was tried and what would help."""


class LedgerDamaged(LakeError):
    """The file at `url` cannot be read as a ledger."""

    def __init__(self, url: str, cause: str):
        self.url = url
        super().__init__(
            f"the ledger {url} is damaged: {clean_cause(cause)}. Move its file away together with those beside it "
            "that end in -wal and -shm, then run `akosha ledger rebuild`; docs/runbooks/ledger-loss.md has the steps."
        )


class TableLost(LakeError):
    """A table that was written to is gone, has no log, was replaced or is older. Nothing is written to it."""

    def __init__(self, uri: str, found: str):
        self.uri = uri
        super().__init__(
            f"the table at {uri} {found}. Nothing was changed, and uploads wait. Put the table back, run `akosha "
            "repair`, restore a backup, or replay the inbox: docs/runbooks/hot-tier-loss.md has the steps."
        )


class LedgerMismatch(LakeError):
    """The ledger is empty or belongs to other tables; ingestion would store every row twice."""
