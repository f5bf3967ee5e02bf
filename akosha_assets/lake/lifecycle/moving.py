"""Moves event days to the tier of their age: gate, write, verify, flip. Each step is durable before the next.

`aging.py` decides which days move, and how many at a time; `warm.py` and `cold.py` convert the rows; `placement.py`
says where a reader finds a row meanwhile.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake import days
from akosha_assets.lake.errors import MoveUnverified
from akosha_assets.lake.lifecycle import cold, day_rows, recall, warm
from akosha_assets.lake.lifecycle.placement import address
from akosha_assets.lake.lifecycle.table_cache import TableCache
from akosha_assets.lake.lifecycle.tee import Digest
from akosha_assets.lake.lifecycle_tables import DAILY_METRICS, MOVES
from akosha_assets.lake.row_rules import repair
from akosha_assets.lake.tables import Table
from akosha_assets.lake.tiers import TIERS, Tier

# A larger day is written while it is read, and moves alone: two at a time would take twice the memory and gain little.
LARGE_DAY_ROWS = 100_000

Checkpoint = Callable[[str], None]
Form = Callable[[pa.RecordBatch], pa.RecordBatch]


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


@dataclass
class _DayCounts:
    """Rows and rows without a vector by event day."""

    rows: Counter[date] = field(default_factory=Counter)
    rows_without_vector: Counter[date] = field(default_factory=Counter)

    def tee(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yields the same batches and counts their rows."""
        for batch in batches:
            self.rows.update(_by_day(batch["event_day"]))
            self.rows_without_vector.update(_by_day(batch["event_day"].filter(pc.is_null(batch["space"]))))
            yield batch


def _by_day(event_days: pa.Array) -> dict[date, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(event_days).to_pylist()}


class _Tally:
    """The digests and counts of the rows on their way from the sources to the target."""

    def __init__(self, connection: duckdb.DuckDBPyConnection):
        self.read, self.written = Digest(connection), Digest(connection)
        self.counts, self.metrics = _DayCounts(), cold.DailyMetrics()


def no_checkpoint(step: str) -> None:
    """Ignores the steps."""


def can_move_together(rows: int) -> bool:
    """Whether a day of so many rows may move with others: it is too small for the recall gate."""
    return rows < recall.MIN_VECTORS


def move_days(
    handles: TableCache,
    event_days: Sequence[date],
    target: str,
    move: warm.Move,
    checkpoint: Checkpoint = no_checkpoint,
) -> list[Aged]:
    """Moves the rows of `event_days` from all hotter tiers to `target`, in one commit of each table.

    Raises:
        RecallBelowPolicy: the recall of a day's new form is below the policy; the days stay.
        MoveUnverified: the rows written differ from the rows read; the days stay.
        TableContended: another writer changed one of the days; rows that were written are complete or hidden by hotter
            ones.
    """
    started = time.monotonic()
    hotter = TIERS[: TIERS.index(target)]
    sources = [
        source for tier in hotter if (source := day_rows.open_source(handles, tier, event_days)) and source.rows_of
    ]
    moving = sorted({day for source in sources for day in source.rows_of})
    if not moving:
        return [Aged(event_day=day, tier=target) for day in event_days]
    measured = {day: recall.gate(handles, day, target, sources, move.policy) for day in moving}
    checkpoint("gated")

    into = day_rows.source_of(handles, target, handles.create(address(target)), moving)
    writers = [f"age/{day}" for day in moving]
    metadata = {
        "akosha_op": "age",
        "event_day": str(moving[0]) if len(moving) == 1 else f"{moving[0]}/{moving[-1]}",
        "policy_version": move.policy.version,
        "aged_by": move.aged_by,
    }
    tally = _Tally(handles.connection)
    version = _write([*sources, *([into] if into.rows_of else [])], into, moving, move, tally, metadata)
    checkpoint("written")
    _verify(into, moving, tally, Digest(handles.connection))
    checkpoint("verified")

    if target == Tier.COLD:
        days.replace(
            handles.create(address("metrics")),
            DAILY_METRICS,
            tally.metrics.table().to_batches(),
            days.predicate(moving),
            writer=writers,
            metadata=metadata,
        )
    aged = {
        day: Aged(
            event_day=day,
            tier=target,
            rows=tally.counts.rows[day],
            rows_moved=sum(source.rows_of.get(day, 0) for source in sources),
            rows_without_vector=tally.counts.rows_without_vector[day],
            recall_at_10=measured[day].at_10,
            probes=measured[day].probes,
            table_version=version,
        )
        for day in moving
    }
    record(handles.create(address("moves")), list(aged.values()), move)
    checkpoint("recorded")

    # The colder source first: its rows may be older forms of rows in the hotter one.
    for source in reversed(sources):
        days.remove(source.table, days.predicate(moving), writer=writers, metadata=metadata)
        checkpoint(f"flipped:{source.tier}")
    seconds = (time.monotonic() - started) / len(moving)
    return [
        replace(aged[day], seconds=seconds) if day in aged else Aged(event_day=day, tier=target) for day in event_days
    ]


def _write(
    sources: list[day_rows.Source],
    into: day_rows.Source,
    moving: list[date],
    move: warm.Move,
    tally: _Tally,
    metadata: dict[str, str],
) -> int:
    """Writes every memory of `sources` once to `into`, in its form; returns the table's version."""
    converted = _convert(sources, moving, into.tier, move, tally.read)
    batches: Iterable[pa.RecordBatch] = tally.counts.tee(tally.written.tee(day_rows.in_order(converted)))
    batches = tally.metrics.tee(batches) if into.tier == Tier.COLD else batches
    # The rows of ordinary days are all converted before they are written, so other days can be written meanwhile.
    batches = batches if sum(source.rows for source in sources) > LARGE_DAY_ROWS else list(batches)
    writers = [f"age/{day}" for day in moving]
    return days.replace(into.table, into.spec, batches, days.predicate(moving), writer=writers, metadata=metadata)


def _verify(into: day_rows.Source, moving: list[date], tally: _Tally, read_back: Digest) -> None:
    """Compares the rows of the days in `into` with those that were written, and these with those that were read."""
    columns = into.spec.schema.names
    for batch in day_rows.rebatched(days.stream(into.table, into.spec, columns, days.predicate(moving))):
        read_back.add_keys(batch)
        read_back.add_content(batch)
    if read_back != tally.written or tally.read.keys != tally.written.keys:
        raise MoveUnverified(moving[0], into.tier, tally.written, read_back)


def _convert(
    sources: list[day_rows.Source], moving: list[date], target: str, move: warm.Move, read: Digest
) -> Iterator[pa.RecordBatch]:
    """Every memory of the sources once, in the form of `target`; `read` digests the keys of the rows read."""
    superseded = day_rows.superseded(sources, moving)
    for source in sources:
        old_keys = superseded.get(source.tier)
        if old_keys is not None and len(old_keys) == source.rows:
            continue
        columns, form = _form_of(source, target, move)
        for batch in day_rows.rebatched(days.stream(source.table, source.spec, columns, days.predicate(moving))):
            newest = batch
            if old_keys is not None:
                newest = batch.filter(pc.invert(pc.is_in(day_rows.day_keys(batch), value_set=old_keys)))
            if newest.num_rows:
                # Repaired before it is digested: the writer would repair it too, and it would not read back equal.
                sound = repair(newest)[0]
                read.add_keys(sound)
                yield repair(form(sound))[0]


def _form_of(source: day_rows.Source, target: str, move: warm.Move) -> tuple[list[str], Form]:
    """The columns of `source` to read, and the function that converts them to the form of `target`."""
    if source.tier == target:
        return source.spec.schema.names, lambda rows: rows
    if target == Tier.WARM:
        return warm.columns_read(move.policy), partial(warm.form, move=move)
    return cold.columns_read(of_warm=source.tier == Tier.WARM), partial(cold.form, move=move)


def record(moves: Table, aged: Sequence[Aged], move: warm.Move) -> None:
    """Appends a row for each of `aged`, with the policy of the move, to the table `moves`; one commit."""
    rows = [
        {
            "event_day": one.event_day,
            "tier": one.tier,
            "rows": one.rows,
            "rows_without_vector": one.rows_without_vector,
            "recall_at_10": one.recall_at_10,
            "policy_version": move.policy.version,
            "policy": move.policy.json,
            "moved_at": move.moved_at,
            "aged_by": move.aged_by,
        }
        for one in aged
    ]
    writers = [f"moves/{one.event_day}" for one in aged]
    days.append(moves, pa.Table.from_pylist(rows, MOVES.schema), writer=writers, metadata={"akosha_op": "age"})
