"""A degraded Mahavishnu answers 503 with its health as JSON. What a proxy answers in its place is no answer."""

import json
import socket
from collections.abc import Iterator

import pytest

from akosha_assets.lake.watch.orchestrator_probe import probe
from tests.loopback import Reply, http_server

HEALTH = {"status": "degraded", "service": "mahavishnu", "checks": {"plan_index": "error"}}
PAGE = b"<!doctype html><html><body>503 Service Unavailable</body></html>"


def as_json(document: object) -> bytes:
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("reply", "is_answer", "received"),
    [
        (Reply(200, as_json({"status": "ok"})), True, "HTTP 200"),
        (Reply(200, b"ok"), True, "HTTP 200"),
        (Reply(204), True, "HTTP 204"),
        (Reply(503, as_json(HEALTH)), True, "HTTP 503 with the status 'degraded'"),
        (Reply(503, as_json(HEALTH | {"padding": "x" * 5000})), True, "HTTP 503 with the status 'degraded'"),
        (Reply(503), False, "HTTP 503 with no JSON"),
        (Reply(503, PAGE, {"Content-Type": "text/html"}), False, "HTTP 503 with a web page"),
        (Reply(503, as_json({"status": 503, "title": "no upstream"})), False, "HTTP 503 with JSON without a status"),
        (Reply(503, as_json(["status"])), False, "HTTP 503 with JSON without a status"),
        (Reply(503, b'{"status": "degr'), False, "HTTP 503 with no JSON"),
        (Reply(200, b"\n" + PAGE, {"Content-Type": "text/html"}), False, "HTTP 200 with a web page"),
        (Reply(401, as_json({"status": "unauthorized"})), False, "HTTP 401"),
        (Reply(404, as_json({"detail": "Not Found"})), False, "HTTP 404"),
        (Reply(500, as_json({"status": "error"})), False, "HTTP 500"),
        (Reply(502, PAGE), False, "HTTP 502"),
        (Reply(302, headers={"Location": "http://login.example.org/"}), False, "HTTP 302: a redirect to another host"),
    ],
)
def test_only_mahavishnu_itself_is_an_answer(reply: Reply, is_answer: bool, received: str) -> None:
    with http_server(lambda *_: reply) as url:
        probed = probe(url)
    assert (probed.is_answer, probed.received) == (is_answer, received)


def test_redirects_on_the_same_host_are_followed_to_a_limit() -> None:
    replies: Iterator[Reply] = iter([Reply(307, headers={"Location": "/health/"}), Reply(503, as_json(HEALTH))])
    with http_server(lambda *_: next(replies)) as url:
        assert probe(url).is_answer
    with http_server(lambda *_: Reply(307, headers={"Location": "/health"})) as url:
        assert probe(url).received == "more than 3 redirects"


def test_silence_is_no_answer() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        probed = probe(f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert not probed.is_answer and "refused" in probed.received
    assert not probe("http://[broken").is_answer
