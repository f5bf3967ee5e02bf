"""Moves one event day to the tier of its age: gate, write, verify, flip. Each step is durable before the next.

`aging.py` decides which days move, and how many at a time; `warm.py` and `cold.py` convert the rows; `placement.py`
says where a reader finds a row meanwhile.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake import days
from akosha_assets.lake.errors import MoveUnverified
from akosha_assets.lake.lifecycle import cold, day_rows, recall, warm
from akosha_assets.lake.lifecycle.placement import TIERS, address
from akosha_assets.lake.lifecycle.policy import COLD, WARM
from akosha_assets.lake.lifecycle.table_cache import TableCache
from akosha_assets.lake.lifecycle.tee import Digest
from akosha_assets.lake.lifecycle_tables import DAILY_METRICS, MOVES
from akosha_assets.lake.row_rules import repair
from akosha_assets.lake.tables import Table

# A larger day is written while it is read, and moves alone: two at a time would take twice the memory and gain little.
LARGE_DAY_ROWS = 100_000

Checkpoint = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Aged:
    """The result of moving one day. `rows`: all rows of the day in `tier` now."""

    event_day: date
    tier: str
    rows: int = 0
    rows_moved: int = 0
    rows_without_vector: int = 0
    recall_at_10: float | None = None
    probes: int = 0
    seconds: float = 0.0
    table_version: int | None = None


def no_checkpoint(step: str) -> None:
    """Ignores the steps."""


def move_day(
    handles: TableCache, day: date, target: str, move: warm.Move, checkpoint: Checkpoint = no_checkpoint
) -> Aged:
    """Moves the rows of `day` from all hotter tiers to `target`.

    Raises:
        RecallBelowPolicy: the recall of the new form is below the policy; the day stays.
        MoveUnverified: the rows written differ from the rows read; the day stays.
        TableContended: another writer changed the day; rows that were written are complete or hidden by hotter ones.
    """
    started = time.monotonic()
    sources = [
        source
        for tier in TIERS[: TIERS.index(target)]
        if (source := day_rows.open_source(handles, tier, day)) and source.rows
    ]
    rows_moved = sum(source.rows for source in sources)
    if not rows_moved:
        return Aged(event_day=day, tier=target)
    measured = recall.gate(handles, day, target, sources, move.policy)
    checkpoint("gated")

    table = handles.create(address(target))
    into = day_rows.Source(target, table, handles.lake.spec(address(target)), day_rows.rows_of(table, day))
    merged = [*sources, *([into] if into.rows else [])]
    metadata = {
        "akosha_op": "age",
        "event_day": day.isoformat(),
        "policy_version": move.policy.version,
        "aged_by": move.aged_by,
    }
    metrics = cold.DailyMetrics()
    read, written, read_back = (Digest(handles.connection) for _ in range(3))
    batches: Iterable[pa.RecordBatch] = written.tee(day_rows.in_order(_convert(merged, day, target, move, read)))
    batches = metrics.tee(batches) if target == COLD else batches
    # The rows of an ordinary day are all converted before they are written, so other days can be written meanwhile.
    batches = batches if sum(source.rows for source in merged) > LARGE_DAY_ROWS else list(batches)
    version = days.replace(into.table, into.spec, batches, days.predicate(day), writer=f"age/{day}", metadata=metadata)
    checkpoint("written")

    for batch in day_rows.rebatched(days.stream(into.table, into.spec, into.spec.schema.names, days.predicate(day))):
        read_back.add_keys(batch)
        read_back.add_content(batch)
    if read_back != written or read.keys != written.keys:
        raise MoveUnverified(day, target, written, read_back)
    checkpoint("verified")

    if target == COLD:
        days.replace(
            handles.create(address("metrics")),
            DAILY_METRICS,
            metrics.table().to_batches(),
            days.predicate(day),
            writer=f"age/{day}",
            metadata=metadata,
        )
    record(
        handles.create(address("moves")),
        day,
        target,
        rows=written.rows,
        rows_without_vector=written.rows_without_vector,
        recall_at_10=measured.at_10,
        move=move,
    )
    checkpoint("recorded")

    # The colder source first: its rows may be older forms of rows in the hotter one.
    for source in reversed(sources):
        days.remove(source.table, days.predicate(day), writer=f"age/{day}", metadata=metadata)
        checkpoint(f"flipped:{source.tier}")
    return Aged(
        event_day=day,
        tier=target,
        rows=written.rows,
        rows_moved=rows_moved,
        rows_without_vector=written.rows_without_vector,
        recall_at_10=measured.at_10,
        probes=measured.probes,
        seconds=time.monotonic() - started,
        table_version=version,
    )


def _convert(
    sources: list[day_rows.Source], day: date, target: str, move: warm.Move, read: Digest
) -> Iterator[pa.RecordBatch]:
    """Every memory of the sources once, in the form of `target`; `read` digests the keys of the rows read."""
    superseded = day_rows.superseded(sources, day)
    for source in sources:
        old_keys = superseded.get(source.tier)
        if old_keys is not None and len(old_keys) == source.rows:
            continue
        form: Callable[[pa.RecordBatch], pa.RecordBatch]
        if source.tier == target:
            columns, form = source.spec.schema.names, lambda rows: rows
        elif target == WARM:
            columns, form = warm.columns_read(move.policy), partial(warm.form, move=move)
        else:
            columns, form = cold.columns_read(of_warm=source.tier == WARM), partial(cold.form, move=move)
        for batch in day_rows.rebatched(days.stream(source.table, source.spec, columns, days.predicate(day))):
            newest = batch
            if old_keys is not None:
                newest = batch.filter(pc.invert(pc.is_in(day_rows.keys(batch), value_set=old_keys)))
            if newest.num_rows:
                # Repaired before it is digested: the writer would repair it too, and it would not read back equal.
                sound = repair(newest)[0]
                read.add_keys(sound)
                yield repair(form(sound))[0]


def record(
    moves: Table,
    day: date,
    tier: str,
    *,
    rows: int,
    rows_without_vector: int,
    recall_at_10: float | None,
    move: warm.Move,
) -> None:
    """Appends a row about the move and its policy to the table `moves`."""
    row = {
        "event_day": day,
        "tier": tier,
        "rows": rows,
        "rows_without_vector": rows_without_vector,
        "recall_at_10": recall_at_10,
        "policy_version": move.policy.version,
        "policy": move.policy.json,
        "moved_at": move.moved_at,
        "aged_by": move.aged_by,
    }
    days.append(moves, pa.Table.from_pylist([row], MOVES.schema), writer=f"moves/{day}", metadata={"akosha_op": "age"})
