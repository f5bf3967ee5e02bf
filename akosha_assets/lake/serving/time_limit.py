"""A time limit that a long call keeps by itself: the thread that works on it looks at the clock between steps.

A caller that stops waiting does not free the thread that works for it. Loops whose length depends on data from outside
call `check_time_limit`; outside of `time_limit` it does nothing.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_current = threading.local()


class TimeLimitExceeded(Exception):
    """A call worked longer than `seconds`."""

    def __init__(self, seconds: float):
        super().__init__(f"no answer within {seconds:g} s")
        self.seconds = seconds


@contextmanager
def time_limit(seconds: float, *, started_at: float | None = None) -> Iterator[None]:
    """Limit calls of this thread inside the block to `seconds` from `started_at` (`time.monotonic`), or from now."""
    before = getattr(_current, "limit", None)
    _current.limit = (seconds, (time.monotonic() if started_at is None else started_at) + seconds)
    try:
        yield
    finally:
        _current.limit = before


def check_time_limit() -> None:
    """Raises: TimeLimitExceeded where the limit of this thread has passed."""
    limit = getattr(_current, "limit", None)
    if limit is not None and time.monotonic() > limit[1]:
        raise TimeLimitExceeded(limit[0])
