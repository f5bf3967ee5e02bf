"""Whether an error of ingestion is an upload's fault, or that of a store, the ledger, a table or this machine's disk.

The latter cost an upload nothing: no attempt is counted, and it is ingested once the cause is gone.
"""

import duckdb

from akosha_assets.lake.errors import LocalStorageFailed, TableLost, TransientError


def is_upload_blameless(error: BaseException) -> bool:
    """Whether neither an upload nor our code can be the cause: a store, the ledger or the disk failed, or a table is
    lost.
    """
    return isinstance(error, TableLost) or find_outage(error) is not None


def find_outage(error: BaseException) -> TransientError | None:
    """`error` as the failure of a store, of the ledger or of this machine's disk; None where an upload or our code may
    be the cause.
    """
    if isinstance(error, TransientError):
        return error
    if isinstance(error, OSError | duckdb.IOException):
        # Files whose format an upload chooses are read by `objects` and the workers, which raise errors of their own.
        return LocalStorageFailed(f"{type(error).__name__}: {error}")
    return None
