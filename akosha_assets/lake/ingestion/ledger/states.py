"""States of uploads and batches in the ledger. Commands import this module at their start: it must stay small."""

from enum import StrEnum


class UploadState(StrEnum):
    """The state of an upload; `ledger.py` has the transitions."""

    ARRIVING = "arriving"
    WAITING = "waiting"
    CLAIMED = "claimed"
    INGESTED = "ingested"
    QUARANTINED = "quarantined"


class UploadFilter(StrEnum):
    """The uploads that a list may be restricted to: those in one state, or those arriving for too long."""

    ARRIVING = UploadState.ARRIVING
    WAITING = UploadState.WAITING
    CLAIMED = UploadState.CLAIMED
    INGESTED = UploadState.INGESTED
    QUARANTINED = UploadState.QUARANTINED
    INCOMPLETE = "incomplete"


class BatchState(StrEnum):
    """The state of a batch."""

    CLAIMED = "claimed"
    COMMITTING = "committing"
    DONE = "done"
    FAILED = "failed"


# States of an upload that is part of the backlog.
BACKLOG = (UploadState.WAITING, UploadState.CLAIMED)
# States of a batch that some run works on, or worked on when it died.
LIVE = (BatchState.CLAIMED, BatchState.COMMITTING)
