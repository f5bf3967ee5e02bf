"""Decides whether an error of ingestion may be the fault of an upload, or is an outage.

An outage of a store, the ledger, a table or this machine's disk counts no attempt: the upload is ingested once it is
over.
"""

import duckdb

from akosha_assets.lake.errors import LocalStorageFailed, TableLost, TransientError


def is_upload_blameless(error: BaseException) -> bool:
    """Whether an upload and our code are not the cause: a store, the ledger or the disk failed, or a table is lost."""
    return isinstance(error, TableLost) or find_outage(error) is not None


def find_outage(error: BaseException) -> TransientError | None:
    """Returns `error` as a failure of a store, the ledger or this machine's disk; None if it may have another cause."""
    if isinstance(error, TransientError):
        return error
    if isinstance(error, OSError | duckdb.IOException):
        # Uploaded files are read by `objects` and the workers, which raise their own errors.
        return LocalStorageFailed(f"{type(error).__name__}: {error}")
    return None
