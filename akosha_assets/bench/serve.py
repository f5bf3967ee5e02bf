"""How the service answers many clients over HTTP: the real process, a real table, questions by vector and by words."""

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from akosha_assets.bench import runs
from akosha_assets.bench.corpus import real_vectors, widened
from akosha_assets.bench.hot_lake import fill
from akosha_assets.bench.search import percentiles
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings


def run(
    *, vectors: int, clients: int, requests: int, real: int, systems: int, work: Path | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Fill a hot table, start the service on it without any cache, then let `clients` ask `requests` questions by vector.

    `cold_start_seconds` is from the start of the process to its first whole answer, `indexed_seconds` until indexes and
    words are there too, `restart_seconds` the cold start of a second process that finds the cache of the first.
    """
    say("embedding")
    known, texts, space = real_vectors(LakeSettings(), real)
    asked, base = known[:200], known[200:]
    with runs.home(work) as settings:
        say("writing the table")
        fill(Lake(settings), widened(base, vectors), texts, space, systems=systems, on_rows=lambda _: None)
        say("starting")
        with _Service(settings.home) as service:
            cold_start = service.seconds_until(lambda: _answers(service.port, asked[0]))
            indexed = service.seconds_until(lambda: service.health()["keyword_rows"] == vectors)
            say("asking")
            by_vector = _load(service.port, clients, requests, [_question(vector=vector.tolist()) for vector in asked])
            words = [" ".join(text.split()[2:7]) for text in texts[:200]]
            by_words = _load(service.port, clients, requests, [_question(query=text, mode="keyword") for text in words])
            rss = service.rss_bytes()
        say("starting again")
        with _Service(settings.home) as service:
            restart = service.seconds_until(lambda: _answers(service.port, asked[0]))
        width = base.shape[1] * 2
        return {
            "vectors": vectors,
            "clients": clients,
            **by_vector,
            "keyword": by_words,
            "cold_start_seconds": cold_start,
            "indexed_seconds": indexed,
            "restart_seconds": restart,
            "rss_bytes": rss,
            "vector_bytes": vectors * width,
            "text_bytes": round(vectors * 2 * float(np.mean([len(text.encode()) for text in texts]))),
            "machine": runs.machine(),
        }


class _Service:
    """The process of the service, on a free port, over one home."""

    def __init__(self, home: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = (home / "service.log").open("wb")
        environment = runs.environment(home) | {"AKOSHA_API_PORT": str(self.port)}
        self.started = time.perf_counter()
        self.process = subprocess.Popen([sys.executable, "-m", "akosha_api"], env=environment, stdout=self.log, stderr=self.log)

    def __enter__(self) -> "_Service":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.log.close()

    def seconds_until(self, condition: Callable[[], bool], most: float = 600) -> float:
        """Seconds from the start of the process until `condition` holds."""
        while time.perf_counter() - self.started < most:
            if self.process.poll() is not None:
                raise RuntimeError(f"the service ended with {self.process.returncode}: {Path(self.log.name).read_text()[-2000:]}")
            try:
                if condition():
                    return round(time.perf_counter() - self.started, 1)
            except (httpx.TransportError, OSError):
                pass
            time.sleep(0.1)
        raise RuntimeError(f"the service was not there after {most:g} s: {Path(self.log.name).read_text()[-2000:]}")

    def health(self) -> dict[str, Any]:
        """What /health says."""
        answer: dict[str, Any] = httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=60).json()
        return answer

    def rss_bytes(self) -> int:
        """Resident memory of the process now."""
        return runs.rss_bytes(self.process.pid)


def _answers(port: int, vector: np.ndarray) -> bool:
    if httpx.get(f"http://127.0.0.1:{port}/ready", timeout=60).status_code != 200:
        return False
    answer = httpx.post(
        f"http://127.0.0.1:{port}/api/v1/search", content=_question(vector=vector.tolist()), headers=JSON, timeout=60
    ).json()
    return bool(answer.get("results")) and answer["tiers"]["hot"]["state"] == "answered"


JSON = {"Content-Type": "application/json"}


def _question(**fields: object) -> bytes:
    return json.dumps({"limit": 10, **fields}).encode()


def _load(port: int, clients: int, requests: int, bodies: list[bytes]) -> dict[str, Any]:
    seconds: list[float] = []
    errors: list[int] = []

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for turn in range(requests // clients):
            body = bodies[(number * 31 + turn) % len(bodies)]
            started = time.perf_counter()
            connection.request("POST", "/api/v1/search", body, JSON)
            answer = connection.getresponse()
            answer.read()
            seconds.append(time.perf_counter() - started)
            if answer.status != 200:
                errors.append(answer.status)
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = len(seconds) / (time.perf_counter() - started)
    return {"requests": len(seconds), "errors": len(errors), **percentiles(seconds), "requests_per_second": round(rate, 1)}
