"""Slow and silent peers, endless heads and unread answers do not hold connections."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import httpx
import pytest

from akosha_assets.lake.catalog import Lake
from tests.api.conftest import until

HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def client(serve: Callable[..., httpx.Client], lake: Lake) -> httpx.Client:
    return serve(lake, wait=False, head_seconds=0.4, send_seconds=0.4, connections=8)


@contextmanager
def connected(client: httpx.Client) -> Iterator[socket.socket]:
    port = client.base_url.port
    assert port is not None
    with socket.create_connection(("127.0.0.1", port), timeout=10) as one:
        yield one


def rest(one: socket.socket) -> bytes:
    """The bytes that arrive until the service closes the connection."""
    return b"".join(iter(lambda: one.recv(65536), b""))


def test_an_incomplete_head_times_out(client: httpx.Client) -> None:
    for half in (b"G", b"GET / HT", HEAD, HEAD + b"X-A: " + b"a" * 1000):
        with connected(client) as one:
            one.sendall(half)
            answer = rest(one)
        assert answer.startswith(b"HTTP/1.1 408 ") and b"was not complete within 0.4 s" in answer


def test_a_silent_connection_times_out(client: httpx.Client) -> None:
    with connected(client) as one:
        assert rest(one) == b""


@pytest.mark.parametrize("drop", [b"\r\n", b"a"])
def test_a_head_sent_byte_by_byte_times_out(client: httpx.Client, drop: bytes) -> None:
    with connected(client) as one:
        one.sendall(HEAD + b"X-A: " if drop == b"a" else drop)
        one.settimeout(0.05)

        def is_closed() -> bool:
            try:
                one.sendall(drop)
                return one.recv(65536) is not None
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        until(is_closed)


def test_the_second_head_of_a_connection_times_out_too(client: httpx.Client) -> None:
    with connected(client) as one:
        one.sendall(HEAD + b"\r\n")
        until(lambda: b"uptime_seconds" in one.recv(65536))
        one.sendall(HEAD)
        assert rest(one).startswith(b"HTTP/1.1 408 ")


def test_an_unread_body_ends_the_connection(client: httpx.Client) -> None:
    with connected(client) as one:
        one.sendall(b"POST /api/v1/search HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 1000000\r\n\r\n{")
        answer = one.recv(65536)
        assert answer.startswith(b"HTTP/1.1 421 ")
        one.sendall(b" ")
        rest(one)


def test_an_endless_head_is_refused(client: httpx.Client) -> None:
    with connected(client) as one:
        one.sendall(HEAD + b"X-A: " + b"a" * 70_000)
        assert one.recv(65536).startswith(b"HTTP/1.1 431 ")
    with connected(client) as one:
        one.sendall(HEAD + b"X-A: " + b"a" * 20_000 + b"\r\nConnection: close\r\n\r\n")
        assert rest(one).startswith(b"HTTP/1.1 200 ")


def test_an_endless_head_after_another_request_ends_the_connection(
    serve: Callable[..., httpx.Client], lake: Lake
) -> None:
    client = serve(lake, wait=False, head_seconds=60)
    with connected(client) as one, suppress(ConnectionError):
        one.sendall((HEAD + b"\r\n") * 50 + HEAD + b"X-A: " + b"a" * 500_000)
        # The connection is closed long before the time limit of a head; a time-out would fail the test.
        rest(one)


def test_a_large_body_does_not_count_as_head(client: httpx.Client) -> None:
    for _ in range(3):
        assert client.post("/api/v1/search", json={"query": "a", "cursor": "b" * 200_000}).status_code == 422


def test_an_excess_connection_is_refused_and_the_others_continue(client: httpx.Client) -> None:
    client.get("/health")
    with ExitStack() as stack:
        # The connection of `client` is the eighth.
        connections = [stack.enter_context(connected(client)) for _ in range(7)]
        for one in connections:
            one.sendall(HEAD)
        with connected(client) as refused:
            answer = rest(refused)
            assert answer.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in answer
        assert client.get("/health").status_code == 200
    until(lambda: _answers(client))


def test_pipelined_requests_are_all_answered(client: httpx.Client) -> None:
    with connected(client) as one:
        one.sendall((HEAD + b"\r\n") * 20 + HEAD + b"Connection: close\r\n\r\n")
        assert rest(one).count(b"HTTP/1.1 200 ") == 21


def test_an_unread_answer_ends_the_connection(serve: Callable[..., httpx.Client], lake: Lake) -> None:
    client = serve(lake, wait=False, send_seconds=0.4, connections=1)
    client.close()
    with connected(client) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 400)
        # The connection no longer counts.
        until(lambda: _answers(client))


def _answers(client: httpx.Client) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{client.base_url.port}/health").status_code == 200
    except httpx.TransportError:
        return False
