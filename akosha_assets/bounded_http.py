"""uvicorn's HTTP protocol with bounds on request heads, slow readers and the number of connections.

uvicorn waits without limit for the rest of a head, and for a peer that does not read. The application bounds the body.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEAD_MAX_BYTES = 64 * 1024


class BoundedHttp(HttpToolsProtocol):
    """A connection that is closed if its head is late, its response is not read, or too many are open."""

    head_seconds: float
    send_seconds: float
    most: int

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the timer of the first head."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._close_with(503, f"{self.most} connections are open; expected fewer", b"retry-after: 1\r\n")
        else:
            self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Starts the timer of the next head, unless a request is being answered."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            # Closed, or now a web socket with a protocol of its own.
            return
        if self._head_bytes > HEAD_MAX_BYTES:
            if self._is_answering():
                # The head of a pipelined request: a refusal here would become part of the other's response.
                self.transport.abort()
            else:
                self._close_with(431, f"expected a request head of at most {HEAD_MAX_BYTES} bytes")
        elif self._head_timer is None and not self._is_answering():
            self._expect_head()

    def on_headers_complete(self) -> None:
        """Stops the timer: the head is complete."""
        self._stop_head_timer()
        self._head_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Bytes of a body do not count as a head; the timer of the next head ends a body that nobody reads."""
        self._head_bytes = 0
        super().on_body(body)

    def pause_writing(self) -> None:
        """Starts the timer for a peer that reads too slowly."""
        super().pause_writing()
        self._send_timer = self._send_timer or self.loop.call_later(self.send_seconds, self._abort)

    def resume_writing(self) -> None:
        """Stops the timer: the peer reads."""
        self._stop_send_timer()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops all timers."""
        self._stop_head_timer()
        self._stop_send_timer()
        super().connection_lost(exc)

    def _is_answering(self) -> bool:
        return bool(self.pipeline) or (self.cycle is not None and not self.cycle.response_complete)

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._head_missing)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _head_missing(self) -> None:
        self._head_timer = None
        if self.transport.is_closing():
            return
        if self._is_answering():
            # The head of a pipelined request may be late: its response is not due yet.
            self._expect_head()
        elif self._head_bytes:
            self._close_with(408, f"the head of the request was not complete within {self.head_seconds:g} s")
        else:
            self.transport.close()

    def _close_with(self, status: int, detail: str, headers: bytes = b"") -> None:
        text = detail.encode()
        size = b"content-length: " + str(len(text)).encode()
        self.transport.write(
            STATUS_LINE[status]
            + headers
            + size
            + b"\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n\r\n"
            + text
        )
        self.transport.close()

    def _abort(self) -> None:
        self.transport.abort()


def bounded(*, head_seconds: float, send_seconds: float, most: int) -> type[BoundedHttp]:
    """A protocol class with these bounds, for uvicorn's setting `http`."""
    return type("Bounded", (BoundedHttp,), {"head_seconds": head_seconds, "send_seconds": send_seconds, "most": most})
