"""What every request passes first and last: an id, who may ask, HEAD as GET, the bounds of its body, the headers and
count of its answer.

One plain ASGI layer: each further one costs every search. What an answer says is not its business.
"""

import asyncio
import random
import time

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from akosha_api import errors
from akosha_api.metrics import RequestMetrics
from akosha_assets.lake.request_guard import RequestGuard

ID_MAX_CHARS = 128
# What is counted, as web servers do, where the client left before its request was whole; nobody is answered.
LEFT = 499
# No other site may read, show or frame an answer, and none is taken for another type than it says. Pages bring a policy
# of their own.
SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
POLICY = b"content-security-policy"
NOTHING = b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class RequestMiddleware:
    """Wraps `app`; what `guard` refuses does not reach it, and a body may have `body_max_bytes` and take `body_seconds`
    to come.
    """

    def __init__(self, app: ASGIApp, guard: RequestGuard, body_max_bytes: int, body_seconds: float):
        self.app, self.guard, self.body_max_bytes, self.body_seconds = app, guard, body_max_bytes, body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = _id(headers.get(b"x-request-id", b"").decode("latin-1"))
        scope.setdefault("state", {})["request_id"] = request_id
        status, method, has_begun = 500, scope["method"], False
        if method == "HEAD":
            # Answered wherever GET is, as GET is, without the body. Others go on to see the request as it came.
            scope = {**scope, "method": "GET"}

        async def sending(message: Message) -> None:
            nonlocal status, has_begun
            if message["type"] == "http.response.start":
                status, has_begun = message["status"], True
                given: list[tuple[bytes, bytes]] = message["headers"]
                policy = [] if any(name == POLICY for name, _ in given) else [(POLICY, NOTHING)]
                message = {
                    **message,
                    "headers": [*given, (b"x-request-id", request_id.encode()), *SECURITY_HEADERS, *policy],
                }
            elif method == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        try:
            answer = self._refused(scope, headers) or self.app
            if answer is self.app and headers.get(b"content-length", b"0") != b"0":
                try:
                    async with asyncio.timeout(self.body_seconds):
                        body = await _body(receive)
                    if body is None:
                        status = LEFT
                        return
                    receive = _replayed(body, receive)
                except TimeoutError:
                    # What may yet come would be taken for the next request.
                    detail = (
                        f"the body did not come within {self.body_seconds:g} s; expected as many bytes as "
                        "Content-Length says"
                    )
                    answer = errors.problem(
                        Request(scope), 408, "request-timeout", detail, headers={"Connection": "close"}
                    )
            await answer(scope, receive, sending)
        except Exception as error:
            if has_begun:
                raise
            # Here and not further out, so that this answer too has its id and its headers.
            await errors.raised(Request(scope), error)(scope, receive, sending)
        finally:
            watched: RequestMetrics = scope["app"].state.watched
            route = getattr(scope.get("route"), "path", "unknown")
            watched.answered(route, method, status, time.perf_counter() - started)

    def _refused(self, scope: Scope, headers: dict[bytes, bytes]) -> ASGIApp | None:
        """The answer to a request whose body is not read: the guard refuses it, its length is unknown, or too much."""
        has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        refusal = self.guard.refuse(scope["method"], scope["path"], scope["headers"], has_body=has_body)
        if refusal is not None:
            return errors.problem(Request(scope), refusal.status, refusal.name, refusal.detail)
        if b"transfer-encoding" in headers:
            detail = "expected a Content-Length; found a body of unknown length"
            return errors.problem(Request(scope), 411, "length-required", detail)
        said = headers.get(b"content-length", b"0").decode("latin-1")
        if not said.isdecimal() or int(said) > self.body_max_bytes:
            detail = f"the body has {said} bytes; expected at most {self.body_max_bytes}"
            return errors.problem(Request(scope), 413, "body-too-large", detail)
        return None


async def _body(receive: Receive) -> Message | None:
    """The whole body as one message; None where the client left."""
    pieces = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return {"type": "http.request", "body": b"".join(pieces), "more_body": False}


def _replayed(message: Message, receive: Receive) -> Receive:
    """Receives `message` and then what `receive` does."""
    waiting = [message]

    async def received() -> Message:
        return waiting.pop() if waiting else await receive()

    return received


def _id(given: str) -> str:
    return (
        given
        if 0 < len(given) <= ID_MAX_CHARS and given.isascii() and given.isprintable()
        else f"{random.getrandbits(128):032x}"
    )
