"""A fixture that serves a test's lake on a free port."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from akosha_api.app import create_app
from akosha_api.server import config
from akosha_api.settings import ApiSettings
from akosha_assets.lake import operator_token
from akosha_assets.lake.catalog import Lake


@contextmanager
def served(lake: Lake, *, wait: bool = True, **settings: object) -> Iterator[httpx.Client]:
    """A client of the service over a lake, with these API settings; ready unless `wait` is false."""
    api_settings = ApiSettings(**{"poll_seconds": 0.05, "port": 0} | settings)  # type: ignore[arg-type]
    server = uvicorn.Server(config(create_app(lake.settings, api_settings), api_settings))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            until(lambda: not wait or client.get("/ready").status_code == 200)
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[..., httpx.Client]]:
    """Starts the service as `served` does, until the tests of the module have run."""
    with ExitStack() as started:

        def start(lake: Lake, **settings: Any) -> httpx.Client:
            return started.enter_context(served(lake, **settings))

        yield start


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
