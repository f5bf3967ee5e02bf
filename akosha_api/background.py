"""The base class of threads that run beside the requests, from the start of the service to its end."""

import threading
from abc import ABC, abstractmethod
from typing import ClassVar


class Background(ABC):
    """A thread from `start` to `stop`. It never runs if `seconds` is 0."""

    # The name of the thread.
    name: ClassVar[str]

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread."""
        if self.seconds:
            self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Asks the thread to stop and waits until it ends."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _sleep(self, seconds: float) -> bool:
        """Sleeps; returns False, at once, if the thread must stop."""
        return not self._stopping.wait(seconds)

    @abstractmethod
    def _run(self) -> None:
        """The work, with pauses of `_sleep`."""
