"""Measures under a long mixed load with commits whether memory of the service grows, and counts failed requests."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from akosha_assets.bench.hot_lake import rows as rows_of
from akosha_assets.bench.http_load import Requests, get, paced, post
from akosha_assets.bench.service import BenchService
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.tables import Fence

CLIENTS = 4
RATE = 20.0
COMMIT_SECONDS = 5.0
CHANGED_ROWS = 50
SAMPLES = 120
# Memory that is allocated first is the working set and not growth.
SETTLING_SHARE = 0.4
SHOWN_SAMPLES = 12


def mixed(
    service: BenchService,
    lake: Lake,
    query_vectors: np.ndarray,
    texts: list[str],
    space: str,
    *,
    systems: int,
    seconds: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Send `RATE` mixed requests a second for `seconds`, commit changed rows every few seconds, and sample memory.

    Commits change rows and add none, so growth is not data. Growth is the slope over the last three fifths of the time.
    """
    started, rows = time.perf_counter(), service.health()["tiers"]["hot"]["rows"]
    samples: list[tuple[float, dict[str, int]]] = []
    commits: list[int] = []
    schema = HOT.schema
    newest: datetime = lake.select(HOT.address, ["occurred_at"], f"id = '{0:026d}'")["occurred_at"][0].as_py()

    def commit() -> None:
        sequence = len(commits) + 1
        numbers = (np.arange(CHANGED_ROWS) + CHANGED_ROWS * sequence) % max(CHANGED_ROWS, rows // 7)
        new_rows = rows_of(
            numbers,
            query_vectors[numbers % len(query_vectors)],
            texts[sequence % 97 :],
            space,
            systems,
            newest,
            sequence,
        )
        at = schema.get_field_index("snapshot_at")
        new_rows = new_rows.set_column(
            at, schema.field(at), pa.repeat(pa.scalar(datetime.now(UTC), schema.field(at).type), len(new_rows))
        )
        lake.upsert(HOT.address, new_rows, Fence("bench/mixed", sequence), {}, only=f"t.event_day = '{newest.date()}'")
        commits.append(sequence)

    def sample() -> None:
        samples.append((time.perf_counter() - started, service.memory_bytes()))

    say(f"mixed load for {seconds} s")
    with _every(max(1.0, seconds / SAMPLES), sample), _every(COMMIT_SECONDS, commit):
        load = paced(service.port, CLIENTS, _requests(query_vectors, texts, systems), round(seconds * RATE), RATE)
    times = np.array([at for at, _ in samples])
    late = times >= SETTLING_SHARE * times[-1]
    growth = {
        f"{name}_per_hour": round(
            3600 * float(np.polyfit(times[late], np.array([memory[name] for _, memory in samples])[late], 1)[0])
        )
        for name in ("rss_bytes", "anonymous_bytes")
    }
    return {
        "seconds": round(load.took_seconds),
        **load.figures(),
        "refused": dict(load.refused),
        "by_kind": {
            name: {
                "p50_ms": round(float(np.median(each)) * 1000, 1),
                "p99_ms": round(float(np.percentile(each, 99)) * 1000, 1),
            }
            for name, each in sorted(load.seconds.items())
        },
        "commits": len(commits),
        "rows_before": rows,
        "rows_after": service.health()["tiers"]["hot"]["rows"],
        "memory": [{"second": round(at), **memory} for at, memory in samples[:: max(1, len(samples) // SHOWN_SAMPLES)]],
        "growth": growth,
    }


def _requests(query_vectors: np.ndarray, texts: list[str], systems: int) -> Requests:
    """How many of each hundred requests are of each kind."""
    kinds = np.repeat(
        [
            "vector",
            "keyword",
            "hybrid",
            "filtered",
            "facets",
            "batch",
            "memory",
            "systems",
            "health",
            "metrics",
            "past",
            "export",
            "sql",
        ],
        [25, 20, 20, 10, 5, 3, 8, 2, 2, 2, 1, 1, 1],
    )
    kinds = np.random.default_rng(3).permutation(kinds)

    def request(turn: int) -> tuple[str, bytes]:
        kind = str(kinds[turn % len(kinds)])
        vector = query_vectors[turn % len(query_vectors)].tolist()
        text = texts[turn % len(texts)].split()
        words = " ".join(text[turn // len(texts) % 20 :][:5]) or text[0]
        system = f"system-{turn % systems:05d}"
        past = (datetime.now(UTC) - timedelta(seconds=30)).isoformat()
        gets = {"systems": "/api/v1/systems", "health": "/health", "metrics": "/metrics"}
        gets["memory"] = f"/api/v1/memories/{system}/conversation/{turn % systems:026d}"
        searches: dict[str, dict[str, Any]] = {
            "vector": {"vector": vector},
            "keyword": {"query": words, "mode": "keyword"},
            "hybrid": {"query": words},
            "filtered": {"vector": vector, "system_id": system},
            "facets": {"query": words, "facets": ["project", "event_day"]},
            "past": {"query": words, "as_of": past},
        }
        if kind in gets:
            return kind, get(gets[kind])
        if kind in searches:
            return kind, post("/api/v1/search", json.dumps(searches[kind]).encode())
        others = {
            "batch": ("/api/v1/search/batch", {"searches": [searches["vector"], searches["keyword"]]}),
            "export": ("/api/v1/export", {"system_id": system, "format": "parquet" if turn % 2 else "jsonl"}),
            "sql": ("/api/v1/sql", {"query": "SELECT project, count(*) AS memories FROM memories GROUP BY project"}),
        }
        path, body = others[kind]
        return kind, post(path, json.dumps(body).encode())

    return request


@contextmanager
def _every(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Calls `act` every few seconds in a thread. An exception of `act` is raised at the end."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(seconds):
            act()

    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(run)
        try:
            yield
        finally:
            ended.set()
    done.result()
