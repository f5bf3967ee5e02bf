"""A service on a port of its own, over the test's lake."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from akosha_api.app import create_app
from akosha_api.server import config
from akosha_api.settings import ApiSettings
from akosha_assets.lake import operator_token
from akosha_assets.lake.catalog import Lake


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[..., httpx.Client]]:
    """Starts the service over a lake, with the API settings given, and returns a client of it once it is ready, if one
    is to `wait`.
    """
    started: list[tuple[uvicorn.Server, threading.Thread, httpx.Client]] = []

    def start(lake: Lake, *, wait: bool = True, **settings: object) -> httpx.Client:
        given = ApiSettings(**{"poll_seconds": 0.05, "port": 0} | settings)  # type: ignore[arg-type]
        server = uvicorn.Server(config(create_app(lake.settings, given), given))
        thread = threading.Thread(target=server.run)
        thread.start()
        until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        started.append((server, thread, client))
        until(lambda: not wait or client.get("/ready").status_code == 200)
        return client

    yield start
    for server, thread, client in started:
        client.close()
        server.should_exit = True
        thread.join()


def until(condition: Callable[[], object]) -> None:
    """Returns once `condition` holds."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def as_operator(home: Path) -> dict[str, str]:
    """Headers that prove an operator of the service over `home`, which has started."""
    return {"Authorization": f"Bearer {operator_token.read(home)}"}
