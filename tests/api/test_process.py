"""The service as a process: start, restart, limits, SIGTERM."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings
from tests.api.conftest import until
from tests.hot_rows import commit, memory


@contextmanager
def served(home: Path, **settings: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address of a service that is ready, and its process. It ends cleanly on SIGTERM afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"AKOSHA_HOME": str(home), "AKOSHA_API_PORT": str(port)} | settings
    log_file = home / "log"
    with log_file.open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "akosha_api"], env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1200):
            try:
                if httpx.get(f"{address}/ready").status_code == 200:
                    break
            except httpx.TransportError:
                assert process.poll() is None, log_file.read_text()
            time.sleep(0.05)
        yield address, process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(20)
        finally:
            process.kill()
        assert code == 0, log_file.read_text()


def test_the_process_serves_an_empty_lake_and_ends_cleanly_on_sigterm(tmp_path: Path) -> None:
    with served(tmp_path) as (address, _):
        answer = httpx.post(f"{address}/api/v1/search", json={"query": "anything"}).json()
        assert (answer["results"], answer["tiers"]["hot"]["state"]) == ([], "empty")


def test_slow_searches_end_in_their_threads_and_do_not_delay_a_shutdown(settings: LakeSettings, lake: Lake) -> None:
    # Half a million words each, of which only the last is in the query: snippets of one page take minutes.
    slow = "é " * 400_000
    commit(
        lake,
        1,
        *(memory(f"slow{number}", f"{number} {slow} deadlock") for number in range(40)),
        memory("sound", "a quick fix"),
    )
    commit(lake, 2, memory("names", "aB" * 500_000))
    with served(settings.home, AKOSHA_API_SEARCH_SECONDS="0.5", AKOSHA_API_DRAIN_SECONDS="2") as (address, _):

        def ask(query: str) -> httpx.Response:
            return httpx.post(
                f"{address}/api/v1/search", json={"query": query, "mode": "keyword", "limit": 100}, timeout=60
            )

        def finds_sound() -> bool:
            answer = ask("quick fix")
            return answer.status_code == 200 and [each["id"] for each in answer.json()["results"]] == ["sound"]

        # Words are indexed after the service is ready.
        until(lambda: finds_sound() and ask("quick fix").json()["stages"]["keyword"]["reason"] is None)
        with ThreadPoolExecutor(4) as clients:
            refused = [answer.status_code for answer in clients.map(ask, ["deadlock"] * 4)]
        # 504: the time limit. 503: no thread became free in time.
        assert set(refused) <= {503, 504} and 504 in refused
        until(finds_sound)
        # These are in progress when SIGTERM arrives.
        clients = ThreadPoolExecutor(4)
        under_way = [clients.submit(ask, "deadlock") for _ in range(4)]
        time.sleep(0.2)
    clients.shutdown()
    assert all(each.exception() or each.result().status_code in (503, 504) for each in under_way)
