"""A run that is asked to end finishes what it has begun: SIGTERM and SIGINT become a question the work asks itself.

Dagster would raise in the middle of a batch instead. `akosha up` sends SIGTERM when it drains; "Terminate" in the UI
arrives as SIGINT.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import dagster as dg


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Within it, signals to end only make the yielded function true. Outside the main thread it stays false."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = threading.Event()

    def remember(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        asked.set()

    before = {number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_if_cancelled(instance: dg.DagsterInstance, run_id: str) -> None:
    """The run goes on, unless someone terminated it: then it is shown as cancelled, with all it did recorded."""
    run = instance.get_run_by_id(run_id)
    if run is not None and run.status == dg.DagsterRunStatus.CANCELING:
        raise dg.DagsterExecutionInterruptedError
