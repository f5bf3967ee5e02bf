"""Measures aging: bytes per row in each tier, rows per second, recall@10, peak memory.

Texts are real paragraphs with their vectors (more vectors are interpolated, see `corpus.py`); fingerprints are random
bytes of real length. Aging runs in its own process, `akosha age --once`, to measure its memory.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from time import perf_counter as clock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.bench import corpus, runs
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import EmbeddingUnavailable
from akosha_assets.lake.lifecycle import quantization, recall
from akosha_assets.lake.lifecycle.placement import days_in
from akosha_assets.lake.schemas import HOT as HOT_TABLE
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.tables import Fence
from akosha_assets.lake.tiers import Tier

SYSTEMS = 200
CLUSTERED = "made up: no model can be loaded"
CHUNK_ROWS = 20_000
STORED_AT_ONCE = 2
PARAGRAPHS_A_TEXT = 5
# Ages of the two days of a short run: one moves to warm, one straight to cold.
WARM_AGE, COLD_AGE = 10, 100


def run(
    *,
    rows: int,
    days: int,
    embedded: int,
    questions: int,
    commits: int,
    work: Path | None,
    on_day: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Store `rows` rows in each of `days` event days, age what is due in one process, and measure the result.

    The first day moves to warm, the second to cold; more days are a history that ends yesterday. `embedded` texts are
    embedded once per home.
    """
    today = datetime.now(UTC).date()
    ages = [WARM_AGE, COLD_AGE][:days] if days <= 2 else list(range(1, days + 1))
    vectors, paragraphs, space = _vectors(embedded + questions)
    query_vectors, known = vectors[:questions], vectors[questions:]
    stored = corpus.widened(known, rows)
    with runs.home(work) as settings:
        lake = Lake(settings)
        started = clock()
        with ThreadPoolExecutor(STORED_AT_ONCE) as pool:
            making = [
                pool.submit(_store, lake, today - timedelta(days=age), stored, paragraphs, space, number)
                for number, age in enumerate(ages)
            ]
            for generated in making:
                generated.result()
                on_day()
        stored_seconds = round(clock() - started, 1)
        hot = days_in(lake)[Tier.HOT]
        # The recall gate measures here and never stops a day.
        aged = runs.command_process(settings, "age", "--once", AKOSHA_WARM_RECALL="0", AKOSHA_COLD_RECALL="0")
        moved = aged.report["moved"]
        lying = days_in(lake)
        answers = {
            tier: _recall(lake, tier, lying[tier], query_vectors) for tier in (Tier.WARM, Tier.COLD) if lying[tier]
        }
        seconds = aged.report["seconds"]
        count = sum(day["rows_moved"] for day in moved)
        sizes = {
            tier: round(_bytes_per_row(found), 1)
            for tier, found in (("hot", hot), (Tier.WARM, lying[Tier.WARM]), (Tier.COLD, lying[Tier.COLD]))
        }
        return {
            "rows": count,
            "days": len(moved),
            "rows_per_second": round(count / seconds) if seconds else 0,
            "seconds": round(seconds, 1),
            "bytes_per_row": sizes,
            "cold_share_of_hot": round(sizes[Tier.COLD] / sizes["hot"], 3) if lying[Tier.COLD] else None,
            "recall_at_10": answers,
            "gate_recall_at_10": {
                tier: min(
                    (day["recall_at_10"] for day in moved if day["tier"] == tier and day["recall_at_10"] is not None),
                    default=None,
                )
                for tier in (Tier.WARM, Tier.COLD)
            },
            "stopped": len(aged.report["stopped"]),
            "storing_seconds": stored_seconds,
            "peak_rss_bytes": aged.peak_rss_bytes,
            "small_commits": _small_commits(work, commits, stored[:5], paragraphs, space) if commits else None,
            "vectors": {"real": len(known) if space != CLUSTERED else 0, "widened_to": rows, "space": space},
            "machine": runs.machine(),
        }


def _vectors(count: int) -> tuple[np.ndarray, list[str], str]:
    """Real vectors and their paragraphs; without a model, vectors in loose clusters, whose recall is not realistic."""
    try:
        return corpus.real_vectors(LakeSettings(), count)
    except EmbeddingUnavailable:
        rng = np.random.default_rng(1)
        generated = rng.standard_normal((60, 384))[rng.integers(0, 60, count)] + 0.5 * rng.standard_normal((count, 384))
        return (
            (generated / np.linalg.norm(generated, axis=1, keepdims=True)).astype(np.float32),
            corpus.paragraphs(count),
            CLUSTERED,
        )


def _small_commits(
    work: Path | None, commits: int, vectors: np.ndarray, paragraphs: list[str], space: str
) -> dict[str, Any]:
    """Measure a scaled-down week of frequent commits: seven event days, compacted once for every hour."""
    from akosha_assets.lake.upkeep.compaction import compact

    today = datetime.now(UTC).date()
    with runs.home(work) as settings:
        lake = Lake(settings)
        for number in range(commits):
            _store(lake, today - timedelta(days=number % 7), vectors, paragraphs, space, number)
            if (number + 1) % max(1, commits // (7 * 24)) == 0:
                compact(lake, HOT_TABLE.address, today=today)
        started = clock()
        table = lake.open(HOT_TABLE.address)
        open_ms = (clock() - started) * 1000
        found = days_in(lake)[Tier.HOT]
        return {
            "commits": commits,
            "rows": sum(day.rows for day in found.values()),
            "files": sum(day.files for day in found.values()),
            "version": table.version() if table else None,
            "open_ms": round(open_ms, 1),
        }


def _store(lake: Lake, day: date, vectors: np.ndarray, paragraphs: list[str], space: str, number: int) -> None:
    """Stores a row for each of `vectors` in `day`."""
    rng = np.random.default_rng(number)
    known = pa.array(paragraphs)
    midnight = np.datetime64(datetime.combine(day, time()), "us")
    at = datetime.now(UTC)
    for start in range(0, len(vectors), CHUNK_ROWS):
        part = vectors[start : start + CHUNK_ROWS]
        count = len(part)
        batch = number * 1_000 + start // CHUNK_ROWS + 1
        digits = rng.bytes(16 * count).hex().encode()
        ends = np.concatenate([[0], np.cumsum(rng.integers(1, PARAGRAPHS_A_TEXT + 1, count))]).astype(np.int32)
        picked = known.take(pa.array(rng.integers(0, len(known), ends[-1])))
        systems = pa.array([f"system-{n:03d}" for n in range(SYSTEMS)]).take(pa.array(rng.integers(0, SYSTEMS, count)))
        columns: dict[str, Any] = {
            "system_id": systems,
            "kind": pa.repeat("conversation", count),
            "id": pa.StringArray.from_buffers(
                count, pa.py_buffer(np.arange(count + 1, dtype=np.int32) * 32), pa.py_buffer(digits)
            ),
            "event_day": pa.repeat(pa.scalar(day, pa.date32()), count),
            "occurred_at": pa.array(
                midnight + rng.integers(0, 86_400_000_000, count).astype("timedelta64[us]"), pa.timestamp("us")
            ).cast(HOT_TABLE.schema.field("occurred_at").type),
            "occurred_from": pa.repeat("ulid", count),
            "text": pc.binary_join(pa.ListArray.from_arrays(pa.array(ends), picked), " "),
            "project": pa.array([f"project-{n}" for n in range(24)]).take(pa.array(rng.integers(0, 24, count))),
            "session_id": pa.array([f"sess-{n:08x}" for n in range(500)]).take(pa.array(rng.integers(0, 500, count))),
            "importance": pa.array(rng.integers(0, 100, count) / 100, pa.float32()),
            "attributes": pa.repeat('{"model": "claude-sonnet", "tool_names": ["Bash", "Edit"]}', count),
            "fingerprint": quantization.scatter(
                count, [(np.arange(count), np.frombuffer(rng.bytes(1024 * count), "u1").reshape(count, -1))]
            ),
            "vector": quantization.scatter(count, [(np.arange(count), part.astype("<f2"))]),
            "space": pa.repeat(space, count),
            "content_hash": pa.array(rng.integers(-(2**62), 2**62, count)),
            "source_table": pa.repeat("conversations_v2", count),
            "upload_id": systems,
            "object_key": systems,
            "object_etag": systems,
            "snapshot_at": pa.repeat(pa.scalar(at, HOT_TABLE.schema.field("snapshot_at").type), count),
            "arrived_at": pa.repeat(pa.scalar(at, HOT_TABLE.schema.field("arrived_at").type), count),
            "batch_id": pa.repeat(batch, count),
            "parser_version": pa.repeat(1, count),
        }
        filled = [
            columns[f.name].cast(f.type) if f.name in columns else pa.nulls(count, f.type) for f in HOT_TABLE.schema
        ]
        lake.append(
            HOT_TABLE.address, pa.table(filled, schema=HOT_TABLE.schema), Fence(f"ingest/bench-{number}", batch), {}
        )


def _bytes_per_row(found: dict[date, Any]) -> float:
    rows = sum(day.rows for day in found.values())
    return sum(day.stored_bytes for day in found.values()) / rows if rows else 0.0


def _recall(lake: Lake, tier: str, found: dict[date, Any], query_vectors: np.ndarray) -> float:
    """recall@10 of one event day of `tier` for held-out queries, against exact search on its float vectors."""
    day = min(found)
    # The current version of hot no longer has the day; an earlier version has it.
    ids, exact = _hot_as_it_was(lake, day)
    columns = ["id", "vector", "vector_scale"] if tier == Tier.WARM else ["id", "sketch", "sketch_scale"]
    rows = lake.select(f"lifecycle/{tier}", columns, f"event_day = '{day}'").sort_by("id").combine_chunks()
    if not rows["id"].combine_chunks().equals(ids):
        raise RuntimeError(f"{day} in {tier} does not have the rows that it had in hot")
    form, scale = rows[columns[1]].combine_chunks(), rows[columns[2]].to_numpy()
    nearest = recall.NearestRows(query_vectors, pa.array([""] * len(query_vectors)))
    for start in range(0, len(exact), CHUNK_ROWS):
        part, steps = form.slice(start, CHUNK_ROWS), scale[start : start + CHUNK_ROWS]
        keys = rows["id"].combine_chunks().slice(start, CHUNK_ROWS)

        def stored(
            questions: np.ndarray, _: np.ndarray, part: pa.Array = part, steps: np.ndarray = steps
        ) -> np.ndarray:
            if tier == Tier.COLD:
                return quantization.sketch_scores(questions, quantization.matrix(part, "u1"), steps)
            scores: np.ndarray = questions @ quantization.from_int8(quantization.matrix(part, "i1"), steps).T
            return scores

        nearest.add(exact[start : start + CHUNK_ROWS].astype(np.float32), keys, stored)
    return round(nearest.recall(), 4)


def _hot_as_it_was(lake: Lake, day: date) -> tuple[pa.Array, np.ndarray]:
    """Sorted ids and float vectors of the day, from the version of hot before aging."""
    from akosha_assets.lake import tables

    now = lake.open(HOT_TABLE.address)
    if now is None:
        raise RuntimeError("nothing was stored")
    first = min(entry["version"] for entry in now.history() if entry.get("akosha_op") == "age") - 1
    table = lake.open(HOT_TABLE.address, first)
    if table is None:
        raise RuntimeError(f"version {first} of hot is gone")
    rows = (
        tables.select(table, ["id", "vector"], HOT_TABLE.schema, f"event_day = '{day}'").sort_by("id").combine_chunks()
    )
    return rows["id"].combine_chunks(), quantization.matrix(rows["vector"].combine_chunks(), "<f2")
