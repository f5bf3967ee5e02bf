"""A thread beside the requests, from the start of the service until its end. What it does is its subclass's to say."""

import threading
from abc import ABC, abstractmethod
from typing import ClassVar


class Background(ABC):
    """Works every `seconds` from `start` until `stop`; never where `seconds` is 0."""

    name: ClassVar[str]

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """The thread runs."""
        if self.seconds:
            self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """The thread has ended."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _rested(self, seconds: float) -> bool:
        """After so many seconds, or at once where it is to stop: whether to go on."""
        return not self._stopping.wait(seconds)

    @abstractmethod
    def _run(self) -> None:
        """The work, with pauses of `_rested`."""
