"""Asks Mahavishnu's `/health` and decides whether it was Mahavishnu that answered.

A degraded Mahavishnu answers 503 with its health as JSON: it is up and does its work. A proxy in front of one that is
down answers as well, with 502, an HTML page, or a redirect to a login page. `docs/alerts.md` has the table.
"""

import time
from dataclasses import dataclass

import httpx
import orjson

PROBE_SECONDS = 2.0
# A health answer has a few hundred bytes.
BODY_BYTES = 64 * 1024
REDIRECTS = 3


@dataclass(frozen=True)
class Probe:
    """Whether Mahavishnu answered, and what was received, in words."""

    is_answer: bool
    received: str


def probe(url: str) -> Probe:
    """Requests `/health` of `url` once, for about `PROBE_SECONDS` at most. Follows redirects on the same host only."""
    deadline = time.monotonic() + PROBE_SECONDS
    target = f"{url.rstrip('/')}/health"
    try:
        for _ in range(REDIRECTS + 1):
            # Loading the certificates takes longer than the request, and http has none.
            is_https = target.startswith("https:")
            with httpx.stream("GET", target, timeout=PROBE_SECONDS, verify=is_https) as response:
                if response.next_request is None:
                    return _judge(response.status_code, _read(response, deadline))
                if response.next_request.url.host != response.request.url.host:
                    return Probe(False, f"HTTP {response.status_code}: a redirect to another host")
                target = str(response.next_request.url)
    except (httpx.TimeoutException, TimeoutError):
        return Probe(False, f"no answer within {PROBE_SECONDS:g} s")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Probe(False, str(error) or type(error).__name__)
    return Probe(False, f"more than {REDIRECTS} redirects")


def _judge(status: int, body: bytes) -> Probe:
    """Whether a response is one of Mahavishnu: 2xx that is not a web page, or 503 with its health as JSON."""
    if 200 <= status < 300 and body.lstrip()[:1] != b"<":
        return Probe(True, f"HTTP {status}")
    health = _health(body)
    if status == 503 and health is not None:
        return Probe(True, f"HTTP 503 with the status {health!r}")
    kind = "a web page" if body.lstrip()[:1] == b"<" else "JSON without a status" if _is_json(body) else "no JSON"
    return Probe(False, f"HTTP {status}" if status not in (200, 503) else f"HTTP {status} with {kind}")


def _read(response: httpx.Response, deadline: float) -> bytes:
    """The first `BODY_BYTES` of the body. Raises: TimeoutError after the deadline."""
    body = b""
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) >= BODY_BYTES:
            break
        if time.monotonic() > deadline:
            raise TimeoutError
    return body


def _is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True


def _health(body: bytes) -> str | None:
    """The member `status` of a JSON object. A number is that of an error document (RFC 9457), as a proxy sends it."""
    document = orjson.loads(body) if _is_json(body) else None
    status = document.get("status") if isinstance(document, dict) else None
    return status if isinstance(status, str) else None
