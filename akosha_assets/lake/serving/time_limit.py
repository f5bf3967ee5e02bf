"""A cooperative time limit: the thread that does the work checks the clock between steps.

A caller that stops waiting does not free the thread that works for it. So loops over untrusted data call
`check_time_limit`, which does nothing outside of `time_limit`.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_current = threading.local()


class TimeLimitExceeded(Exception):
    """A call took longer than `seconds`."""

    def __init__(self, seconds: float):
        super().__init__(f"no answer within {seconds:g} s")
        self.seconds = seconds


@contextmanager
def time_limit(seconds: float, *, started_at: float | None = None) -> Iterator[None]:
    """Limit the block to `seconds` from `started_at`, a time of `time.monotonic`, or from now, in this thread."""
    before = getattr(_current, "limit", None)
    _current.limit = (seconds, (time.monotonic() if started_at is None else started_at) + seconds)
    try:
        yield
    finally:
        _current.limit = before


def check_time_limit() -> None:
    """Raise TimeLimitExceeded if the time limit of this thread has passed."""
    limit = getattr(_current, "limit", None)
    if limit is not None and time.monotonic() > limit[1]:
        raise TimeLimitExceeded(limit[0])
