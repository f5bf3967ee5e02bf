"""One event day moves to the tier its age asks for: gate, write, verify, flip; each step durable before the next.

Which days move, and how many at once, is in `aging.py`; what a row becomes is in `warm.py` and `cold.py`, where a
reader finds it meanwhile in `placement.py`.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from akosha_assets.lake import days
from akosha_assets.lake.errors import MoveUnverified
from akosha_assets.lake.lifecycle import cold, day_rows, recall, warm
from akosha_assets.lake.lifecycle.placement import TIERS, address
from akosha_assets.lake.lifecycle.policy import COLD, WARM
from akosha_assets.lake.lifecycle.table_cache import TableCache
from akosha_assets.lake.lifecycle.tee import Digest
from akosha_assets.lake.lifecycle_tables import DAILY_METRICS, MOVES
from akosha_assets.lake.row_rules import repair

# A day of more rows is written while it is read, and moves alone: two of them would hold twice the memory and gain
# little.
LARGE_DAY_ROWS = 100_000

Checkpoint = Callable[[str], None]


@dataclass(frozen=True)
class Aged:
    """What moving one day did. `rows` counts all rows that the day now has in `tier`."""

    event_day: date
    tier: str
    rows: int
    rows_moved: int
    rows_without_vector: int
    recall_at_10: float | None
    probes: int
    seconds: float
    table_version: int | None


def unwatched(step: str) -> None:
    """The checkpoint of a caller who does not follow the steps."""


def move_day(handles: TableCache, day: date, target: str, move: warm.Move, checkpoint: Checkpoint = unwatched) -> Aged:
    """The rows of `day` lie in `target` and in no hotter tier.

    Raises:
        RecallBelowPolicy: the new form answers too badly; the day stays.
        MoveUnverified: what was written is not what was read; the day stays.
        TableContended: another writer touched the day; what was written is hidden by what stays, or whole.
    """
    started = time.monotonic()
    sources = [
        source
        for tier in TIERS[: TIERS.index(target)]
        if (source := day_rows.opened(handles, tier, day)) and source.rows
    ]
    moved = sum(source.rows for source in sources)
    if not moved:
        return Aged(day, target, 0, 0, 0, None, 0, 0.0, None)
    found = recall.gate(handles, day, target, [(source.table, source.spec) for source in sources], move.policy)
    checkpoint("gated")

    table = handles.create(address(target))
    into = day_rows.Source(target, table, handles.lake.spec(address(target)), day_rows.rows_of(table, day))
    lying = [*sources, *([into] if into.rows else [])]
    metadata = {
        "akosha_op": "age",
        "event_day": day.isoformat(),
        "policy_version": move.policy.version,
        "aged_by": move.aged_by,
    }
    metrics = cold.DailyMetrics()
    read, sent, found_back = (Digest(handles.connection) for _ in range(3))
    batches: Iterable[pa.RecordBatch] = sent.of(day_rows.in_order(_formed(lying, day, target, move, read)))
    batches = metrics.counted(batches) if target == COLD else batches
    # A day of ordinary size is made whole and then written, so that other days can be written meanwhile.
    batches = batches if sum(source.rows for source in lying) > LARGE_DAY_ROWS else list(batches)
    version = days.replace(into.table, into.spec, batches, days.predicate(day), writer=f"age/{day}", metadata=metadata)
    checkpoint("written")

    for batch in day_rows.rebatched(days.stream(into.table, into.spec, into.spec.schema.names, days.predicate(day))):
        found_back.add_keys(batch)
        found_back.add_content(batch)
    if found_back != sent or read.keys != sent.keys:
        raise MoveUnverified(day, target, sent, found_back)
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
    bare = sent.rows_without_vector
    record(
        handles.create(address("moves")),
        day,
        target,
        rows=sent.rows,
        rows_without_vector=bare,
        recall_at_10=found.at_10,
        move=move,
    )
    checkpoint("recorded")

    # The colder source first: its rows may be older forms of what the hotter one still holds.
    for source in reversed(sources):
        days.remove(source.table, days.predicate(day), writer=f"age/{day}", metadata=metadata)
        checkpoint(f"flipped:{source.tier}")
    return Aged(day, target, sent.rows, moved, bare, found.at_10, found.probes, time.monotonic() - started, version)


def _formed(
    lying: list[day_rows.Source], day: date, target: str, move: warm.Move, read: Digest
) -> Iterator[pa.RecordBatch]:
    """Every memory of the sources once, in the form of `target`."""
    superseded = day_rows.superseded(lying, day)
    for source in lying:
        losers = superseded.get(source.tier)
        if losers is not None and len(losers) == source.rows:
            continue
        if source.tier == target:
            columns, form = source.spec.schema.names, lambda rows: rows
        elif target == WARM:
            columns, form = warm.columns_read(move.policy), partial(warm.form, move=move)
        else:
            columns, form = cold.columns_read(of_warm=source.tier == WARM), partial(cold.form, move=move)
        for batch in day_rows.rebatched(days.stream(source.table, source.spec, columns, days.predicate(day))):
            kept = (
                batch if losers is None else batch.filter(pc.invert(pc.is_in(day_rows.keys(batch), value_set=losers)))
            )
            if kept.num_rows:
                read.add_keys(kept)
                # Repaired before it is counted: the writer would repair it anyway, and it would not read back as sent.
                yield repair(form(kept))[0]


def record(
    moves: DeltaTable,
    day: date,
    tier: str,
    *,
    rows: int,
    rows_without_vector: int,
    recall_at_10: float | None,
    move: warm.Move,
) -> None:
    """`moves` tells of the move, with the policy it was made under."""
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
