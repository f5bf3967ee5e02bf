"""Measures the service process over HTTP with many clients: vector, keyword and hybrid searches on a real table."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from akosha_assets.bench import http_load, runs
from akosha_assets.bench.corpus import real_vectors, widened
from akosha_assets.bench.hot_lake import fill
from akosha_assets.bench.mixed import mixed
from akosha_assets.bench.service import BenchService
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings

QUERY_VECTORS = 200
SEARCH = "/api/v1/search"
WARM_UP = 100
# The rate of the paced load as a share of the rate of the closed loop.
PACE = 0.6


def run(
    *,
    vectors: int,
    clients: int,
    requests: int,
    real: int,
    systems: int,
    seconds: int,
    work: Path | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Fill a hot table, start the service without a cache, and let `clients` send `requests` queries of each kind.

    `requests`, `errors`, `p50_ms` and `p99_ms` are those of the closed loop by vector. Times from the start of the
    process: `cold_start_seconds` until every row can be found by vector, `words_seconds` until also by keyword,
    `indexed_seconds` until indexes are built. `restart_seconds` is `indexed_seconds` of a process that finds the cache
    of the first one. With `seconds`, a mixed load with commits follows for that long.
    """
    say("embedding")
    known, texts, space = real_vectors(LakeSettings(), real)
    query_vectors, base = known[:QUERY_VECTORS], known[QUERY_VECTORS:]
    with runs.home(work) as settings:
        say("writing the table")
        lake = Lake(settings)
        fill(lake, widened(base, vectors), texts, space, systems=systems, on_rows=lambda _: None)
        say("starting")
        with BenchService(settings.home) as service:
            cold_start = service.seconds_until(lambda health: health["tiers"]["hot"]["rows"] == vectors)
            words = service.seconds_until(lambda health: health["keyword_rows"] == vectors)
            indexed = service.seconds_until(lambda health: health["is_settled"])
            loads = {}
            for name, questions in _questions(query_vectors, texts, WARM_UP + 2 * requests).items():
                say(f"asking by {name}")
                loads[name] = _measured(service, clients, questions, requests)
            memory = service.memory_bytes()
        say("starting again")
        with BenchService(settings.home) as service:
            restart_answers = service.seconds_until(lambda health: health["tiers"]["hot"]["rows"] == vectors)
            restart = service.seconds_until(lambda health: health["is_settled"])
            mix = (
                mixed(service, lake, query_vectors, texts, space, systems=systems, seconds=seconds, say=say)
                if seconds
                else None
            )
        text_bytes = round(vectors * 2 * float(np.mean([len(text.encode()) for text in texts])))
        vector_bytes = vectors * base.shape[1] * 2
        return {
            "vectors": vectors,
            "clients": clients,
            **{name: loads["vector"][name] for name in ("requests", "errors", "p50_ms", "p99_ms")},
            **loads,
            "cold_start_seconds": cold_start,
            "words_seconds": words,
            "indexed_seconds": indexed,
            "restart_answers_seconds": restart_answers,
            "restart_seconds": restart,
            **memory,
            "vector_bytes": vector_bytes,
            "text_bytes": text_bytes,
            "memory_ratio": round(memory["rss_bytes"] / (vector_bytes + text_bytes), 2),
            **({"mixed": mix} if mix else {}),
            "machine": runs.machine(),
        }


def _questions(query_vectors: np.ndarray, texts: list[str], count: int) -> dict[str, list[bytes]]:
    """Bodies by kind. Texts are all different, so that no query vector is cached."""
    words = []
    for number in range(count):
        text = texts[number % len(texts)].split()
        start = 2 + 3 * (number // len(texts))
        words.append(" ".join(text[start : start + 5]) or text[0])
    return {
        "vector": [_post(vector=vector.tolist()) for vector in query_vectors],
        "keyword": [_post(query=text, mode="keyword") for text in words],
        "hybrid": [_post(query=text) for text in words],
    }


def _post(**fields: object) -> bytes:
    return http_load.post(SEARCH, json.dumps({"limit": 10, **fields}).encode())


def _measured(service: BenchService, clients: int, questions: list[bytes], count: int) -> dict[str, Any]:
    """Runs a closed loop, in which every client waits for the others, and then a paced load."""

    def since(first: int) -> http_load.Requests:
        return lambda turn: ("search", questions[(first + turn) % len(questions)])

    http_load.closed(service.port, clients, since(0), min(WARM_UP, count))
    before = service.cpu_seconds()
    closed = http_load.closed(service.port, clients, since(WARM_UP), count)
    cpu_ms = round((service.cpu_seconds() - before) * 1000 / closed.answers, 2)
    rate = round(PACE * closed.answers / closed.took_seconds, 1)
    paced = http_load.paced(service.port, clients, since(WARM_UP + count), count, rate)
    return {**closed.figures(), "cpu_ms_per_request": cpu_ms, "paced": paced.figures() | {"asked_per_second": rate}}
