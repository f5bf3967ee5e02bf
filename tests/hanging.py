"""A server that accepts every connection and never answers, as a store behind a broken load balancer does."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from akosha_assets.lake import aws_clients


@contextmanager
def hanging_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the server. All AWS clients of the process use it, with short time-outs."""
    for name, value in {"CONNECT_SECONDS": 1, "READ_SECONDS": 0.2, "ATTEMPTS": 1}.items():
        monkeypatch.setattr(aws_clients, name, value)
    # The kernel completes connections of the backlog; nobody reads them.
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(key, "test")
        for key in ("AWS_REGION", "AWS_DEFAULT_REGION"):
            monkeypatch.setenv(key, "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        yield url
