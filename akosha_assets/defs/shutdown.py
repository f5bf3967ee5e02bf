"""A run that is asked to stop finishes its present step: SIGTERM and SIGINT set a flag that the work polls.

Without this, Dagster raises in the middle of a batch. `akosha up` sends SIGTERM when it drains; "Terminate" in the UI
arrives as SIGINT.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import dagster as dg


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Yields a function that is true once the process was asked to stop. Outside the main thread it is always false."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    requested = threading.Event()

    def request_stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        requested.set()

    previous = {number: signal.signal(number, request_stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield requested.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def end_if_cancelled(instance: dg.DagsterInstance, run_id: str) -> None:
    """The run goes on, unless someone terminated it: then it ends as cancelled, with all its work recorded.

    Raises:
        DagsterExecutionInterruptedError: someone terminated the run.
    """
    run = instance.get_run_by_id(run_id)
    if run is not None and run.status == dg.DagsterRunStatus.CANCELING:
        raise dg.DagsterExecutionInterruptedError
