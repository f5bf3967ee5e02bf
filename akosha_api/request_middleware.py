"""The ASGI layer around every request: request id, guard, HEAD as GET, limits of the body, headers, metrics.

One plain layer, because each further one slows every search. It does not read answers.
"""

import asyncio
import random
import time
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from akosha_api import errors
from akosha_api.metrics import RequestMetrics
from akosha_api.problems import ProblemName
from akosha_assets.lake.request_guard import RequestGuard

ID_MAX_CHARS = 128
# The status that is counted, as web servers do, if the client disconnects before its body is complete.
CLIENT_CLOSED_REQUEST = 499
# No other site may read, show or frame an answer, and its type is never guessed. Pages have their own policy.
SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
POLICY = b"content-security-policy"
NOTHING = b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

Headers = dict[bytes, bytes]


class RequestMiddleware:
    """Passes to `app` what `guard` allows, with bodies of up to `body_max_bytes` that arrive in `body_seconds`."""

    def __init__(self, app: ASGIApp, guard: RequestGuard, body_max_bytes: int, body_seconds: float):
        self.app, self.guard, self.body_max_bytes, self.body_seconds = app, guard, body_max_bytes, body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        headers: Headers = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id", b"").decode("latin-1"))
        scope.setdefault("state", {})["request_id"] = request_id
        method = scope["method"]
        response = _Response(send, request_id, is_head=method == "HEAD")
        if method == "HEAD":
            # Routes see GET; the body is dropped on the way out.
            scope = {**scope, "method": "GET"}
        try:
            await self._answer(scope, headers, receive, response)
        except Exception as error:
            if response.has_begun:
                raise
            # Here and not in an outer layer, so that this answer has its id and headers too.
            await errors.respond_to(Request(scope), error)(scope, receive, response.send)
        finally:
            metrics: RequestMetrics = scope["app"].state.metrics
            route = getattr(scope.get("route"), "path", "unknown")
            metrics.count_request(route, method, response.status, time.perf_counter() - started)

    async def _answer(self, scope: Scope, headers: Headers, receive: Receive, response: "_Response") -> None:
        refusal = self._refuse(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, response.send)
            return
        if headers.get(b"content-length", b"0") != b"0":
            try:
                async with asyncio.timeout(self.body_seconds):
                    body = await _read_body(receive)
            except TimeoutError:
                await self._body_timeout(scope)(scope, receive, response.send)
                return
            if body is None:
                response.status = CLIENT_CLOSED_REQUEST
                return
            receive = _replay(body, receive)
        await self.app(scope, receive, response.send)

    def _body_timeout(self, scope: Scope) -> ASGIApp:
        detail = (
            f"the body did not arrive within {self.body_seconds:g} s; expected as many bytes as Content-Length says"
        )
        # The rest of the body could be taken for the next request.
        headers = {"Connection": "close"}
        return errors.respond(Request(scope), 408, ProblemName.REQUEST_TIMEOUT, detail, headers=headers)

    def _refuse(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        """The response to a request that is refused before its body is read; None if it is not refused."""
        request = Request(scope)
        has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        refusal = self.guard.refuse(scope["method"], scope["path"], scope["headers"], has_body=has_body)
        if refusal is not None:
            return errors.respond(request, refusal.status, ProblemName(refusal.name), refusal.detail)
        if b"transfer-encoding" in headers:
            detail = "expected a Content-Length; found a body of unknown length"
            return errors.respond(request, 411, ProblemName.LENGTH_REQUIRED, detail)
        length = headers.get(b"content-length", b"0").decode("latin-1")
        if not length.isdecimal() or int(length) > self.body_max_bytes:
            detail = f"the body has {length} bytes; expected at most {self.body_max_bytes}"
            return errors.respond(request, 413, ProblemName.BODY_TOO_LARGE, detail)
        return None


@dataclass
class _Response:
    """Sends the messages of a response with the headers that every response has."""

    to_client: Send
    request_id: str
    is_head: bool
    status: int = 500
    has_begun: bool = False

    async def send(self, message: Message) -> None:
        """Sends one message of the response."""
        if message["type"] == "http.response.start":
            self.status, self.has_begun = message["status"], True
            headers: list[tuple[bytes, bytes]] = message["headers"]
            policy = [] if any(name == POLICY for name, _ in headers) else [(POLICY, NOTHING)]
            own = [(b"x-request-id", self.request_id.encode()), *SECURITY_HEADERS, *policy]
            message = {**message, "headers": [*headers, *own]}
        elif self.is_head:
            message = {**message, "body": b""}
        await self.to_client(message)


async def _read_body(receive: Receive) -> Message | None:
    """The complete body as one message; None if the client disconnected."""
    chunks = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return {"type": "http.request", "body": b"".join(chunks), "more_body": False}


def _replay(message: Message, receive: Receive) -> Receive:
    """A `receive` that returns `message` first."""
    pending = [message]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed


def _request_id(sent: str) -> str:
    """The id that the caller sent, or a random one unless it is printable ASCII of at most `ID_MAX_CHARS`."""
    is_valid = 0 < len(sent) <= ID_MAX_CHARS and sent.isascii() and sent.isprintable()
    return sent if is_valid else f"{random.getrandbits(128):032x}"
