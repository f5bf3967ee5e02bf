"""A guard in front of Dagster's webserver: it requires a token and applies the rules of `lake/request_guard.py`.

The webserver has no authentication, accepts mutations by GET, and its runs execute code. A caller sends the token as a
bearer token, or once in the address; a browser then keeps a session cookie.
"""

import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode

from akosha_assets.lake import operator_token
from akosha_assets.lake.request_guard import (
    Headers,
    Refusal,
    RequestGuard,
    Routes,
    collect,
    is_navigation,
    refuse_content,
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

GRAPHQL = "/graphql"
READS = ("GET", "HEAD")
SECURITY_HEADERS = [
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
# After a link from another site, the browser omits the cookie once; it sends it with the link on this page.
LOGIN = """<!doctype html><meta charset="utf-8"><title>Akosha: Dagster</title>
<h1>Dagster requires a token</h1>
<p>Open the address that <code>akosha up</code> or <code>akosha demo</code> printed; it ends in
<code>?token=…</code>. The token is the content of <code>AKOSHA_HOME/operator-token</code>,
or <code>AKOSHA_DAGSTER_TOKEN</code> if that is set.</p>
<p>If you have done that in this browser: <a href="">continue</a>.</p>
"""


class DagsterGuard:
    """Passes requests to `app`, served at `host` and `port`, only from callers with `token`."""

    def __init__(self, app: App, *, token: str, host: str, port: int):
        self.app, self.token = app, token
        self.guard = RequestGuard(listens_on=host, hosts=(), origins=(), routes=Routes(), settings=("", ""))
        # Browsers send a cookie to all ports of a host, so its name has the port. Its value, which other services see,
        # is not the token.
        self.cookie = f"akosha_dagster_{port}"
        self.session = hmac.new(token.encode(), b"dagster session", hashlib.sha256).hexdigest()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or connect one web socket."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers: Headers = scope["headers"]
        refusal = self._refusal(scope, headers)
        token = self._token_in_address(scope)
        if refusal is None and token is not None and operator_token.matches(token, self.token):
            await self._sign_in(scope, send)
            return
        if refusal is None and not self._is_authenticated(scope, headers):
            refusal = Refusal(
                401,
                "token-missing",
                "expected the operator token, as Authorization: Bearer or once as ?token= in the address",
            )
        if refusal is None:
            await self.app(scope, receive, send if scope["type"] == "websocket" else _with_security_headers(send))
        elif scope["type"] == "websocket":
            # The server answers the handshake with 403.
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.name})
        else:
            await self._refuse(scope, send, refusal, as_page=is_navigation(collect(headers)))

    def _refusal(self, scope: Message, headers: Headers) -> Refusal | None:
        method, path = scope.get("method", "GET"), scope["path"]
        found = collect(headers)
        if refusal := self.guard.refuse_host(path, found):
            return refusal
        is_page = method == "GET" and scope["type"] == "http" and is_navigation(found)
        if not is_page and (refusal := self.guard.refuse_origin(method, path, found)):
            return refusal
        if scope["type"] == "websocket":
            return None
        lengths = [value for name, value in headers if name in (b"content-length", b"transfer-encoding")]
        is_graphql = path.rstrip("/") == GRAPHQL
        if method not in READS and (is_graphql or any(length != b"0" for length in lengths)):
            return refuse_content(found)
        # Dagster executes a query from the address like one from a body, mutations included.
        if is_graphql and ((method in READS and not is_page) or _query(scope, "query") is not None):
            return Refusal(
                405, "method-not-allowed", "found a query by GET or in the address; expected POST with a JSON body"
            )
        return None

    def _is_authenticated(self, scope: Message, headers: Headers) -> bool:
        for name, value in headers:
            if name == b"authorization" and operator_token.matches(
                operator_token.bearer(value.decode("latin-1")), self.token
            ):
                return True
        if scope["type"] == "websocket" and not any(name == b"origin" for name, _ in headers):
            # Browsers always send an origin; other clients use the bearer token.
            return False
        return any(name == b"cookie" and self._has_session(value.decode("latin-1")) for name, value in headers)

    def _has_session(self, cookies: str) -> bool:
        try:
            morsel = SimpleCookie(cookies).get(self.cookie)
        except CookieError:
            return False
        return morsel is not None and operator_token.matches(morsel.value, self.session)

    def _token_in_address(self, scope: Message) -> str | None:
        return _query(scope, "token") if scope["type"] == "http" and scope["method"] == "GET" else None

    async def _sign_in(self, scope: Message, send: Send) -> None:
        query = urlencode([(name, value) for name, value in _pairs(scope) if name != "token"])
        # A browser reads two leading slashes as another host.
        path = "/" + scope["raw_path"].decode("latin-1").lstrip("/\\")
        cookie = f"{self.cookie}={self.session}; Path=/; HttpOnly; SameSite=Strict"
        headers = [
            (b"location", (path + ("?" + query if query else "")).encode()),
            (b"set-cookie", cookie.encode()),
            (b"content-length", b"0"),
        ]
        await _answer(send, 303, headers, b"")

    async def _refuse(self, scope: Message, send: Send, refusal: Refusal, *, as_page: bool) -> None:
        if as_page and refusal.status == HTTPStatus.UNAUTHORIZED:
            content_type, body = b"text/html; charset=utf-8", LOGIN.encode()
        else:
            problem = {
                "type": f"urn:akosha:problem:{refusal.name}",
                "title": HTTPStatus(refusal.status).phrase,
                "status": refusal.status,
                "detail": refusal.detail,
                "instance": scope["path"],
            }
            content_type, body = b"application/problem+json", json.dumps(problem).encode()
        headers = [
            (b"content-type", content_type),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        headers.append((b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'"))
        await _answer(send, refusal.status, headers, b"" if scope["method"] == "HEAD" else body)


async def _answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *SECURITY_HEADERS]})
    await send({"type": "http.response.body", "body": body})


def _with_security_headers(send: Send) -> Send:
    async def send_secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            # A second content security policy is added: browsers enforce both.
            present = {name.lower() for name, _ in message.get("headers", [])} - {b"content-security-policy"}
            added = [header for header in SECURITY_HEADERS if header[0] not in present]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return send_secured


def _pairs(scope: Message) -> list[tuple[str, str]]:
    return parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=None)


def _query(scope: Message, wanted: str) -> str | None:
    return next((value for name, value in _pairs(scope) if name == wanted), None)
