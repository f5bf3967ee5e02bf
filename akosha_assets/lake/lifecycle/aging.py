"""Age event days: gate, write, verify, flip; safe to stop anywhere, and to run again.

What a row becomes is in `warm.py` and `cold.py`, where a reader finds it meanwhile in `placement.py`; the steps and what
each leaves behind are told in docs/lifecycle.md. Deleting what has left cold is in `retention.py`.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake import days
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.embeddings import Embedder
from akosha_assets.lake.errors import EmbeddingUnavailable, InvalidRequest, MoveUnverified, RecallBelowPolicy, TableContended
from akosha_assets.lake.lifecycle import cold, populations, recall, warm
from akosha_assets.lake.lifecycle.digest import Digest
from akosha_assets.lake.lifecycle.hot import days_without_vectors, embed_day
from akosha_assets.lake.lifecycle.placement import TIERS, address, days_in
from akosha_assets.lake.lifecycle.policy import COLD, EXPIRED, HOT, WARM, TierPolicy
from akosha_assets.lake.schemas import DAILY_METRICS, MOVES
from akosha_assets.lake.tables import Fence

logger = logging.getLogger(__name__)

ATTEMPTS = 5

Checkpoint = Callable[[str], None]


@dataclass(frozen=True)
class Due:
    """An event day that lies in a hotter tier than its age asks for."""

    event_day: date
    tier: str
    rows: int
    stored_bytes: int


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


def due(lake: Lake, policy: TierPolicy, today: date) -> list[Due]:
    """The days to age on `today`, oldest first, from the table logs alone."""
    found: dict[date, Due] = {}
    lying = days_in(lake)
    for tier in (HOT, WARM):
        for event_day, stored in lying[tier].items():
            target = target_of(policy, event_day, today)
            if stored.rows and TIERS.index(target) > TIERS.index(tier):
                before = found.get(event_day, Due(event_day, target, 0, 0))
                found[event_day] = Due(event_day, target, before.rows + stored.rows, before.stored_bytes + stored.stored_bytes)
    return [found[event_day] for event_day in sorted(found)]


def target_of(policy: TierPolicy, event_day: date, today: date) -> str:
    """The tier that aging brings `event_day` to; what is past the cold window is for retention to judge, in cold."""
    tier = policy.tier_of(event_day, today)
    return COLD if tier == EXPIRED else tier


def age_day(
    lake: Lake,
    event_day: date,
    *,
    policy: TierPolicy,
    today: date,
    moved_at: datetime,
    run: str,
    embedder: Embedder | None = None,
    checkpoint: Checkpoint = unwatched,
) -> Aged:
    """The rows of `event_day` lie in the tier that its age asks for, and in no hotter one. Nothing to move: nothing is done.

    Rows that were never embedded get their vector from `embedder` first: once their text is a sentence it is too late.

    `checkpoint` is told the name of each step that has become durable: gated, written, verified, recorded, and
    flipped:TIER for each tier that was left.

    Raises:
        InvalidRequest: the day belongs in hot.
        RecallBelowPolicy: the new form answers too badly; the day stays.
        MoveUnverified: what was written is not what was read; the day stays.
        TableContended: other writers kept touching the day.
    """
    target = target_of(policy, event_day, today)
    if target == HOT:
        raise InvalidRequest("event_day", f"{event_day} belongs in hot until {policy.moves_on(event_day, HOT)}")
    if embedder is not None:
        embed_day(lake, event_day, embedder, run_id=run)
    move = warm.Move(policy, moved_at, run)
    for attempt in range(ATTEMPTS):
        try:
            return _move(lake, event_day, target, move, checkpoint)
        except TableContended as error:
            logger.info("day was touched while it moved", extra={"event_day": str(event_day), "attempt": attempt, "cause": str(error)})
            last = error
    raise last


def age(
    lake: Lake, items: list[Due], *, policy: TierPolicy, today: date, moved_at: datetime, run: str
) -> Iterator[Aged | RecallBelowPolicy]:
    """Each of `items` is aged, in their order. A day that the recall gate stops is yielded as its error.

    Raises:
        TableContended: other writers kept touching a day; raised when the others were aged.
    """
    embedder = embedder_for(lake, items)
    contended: TableContended | None = None
    for item in items:
        try:
            yield age_day(lake, item.event_day, policy=policy, today=today, moved_at=moved_at, run=run, embedder=embedder)
        except RecallBelowPolicy as error:
            logger.error("recall gate stopped a day", extra={"event_day": str(item.event_day), "tier": item.tier, "recall": error.recall})
            yield error
        except TableContended as error:
            logger.warning("a day is left for the next run", extra={"event_day": str(item.event_day), "cause": str(error)})
            contended = error
    if contended is not None:
        raise contended


def embedder_for(lake: Lake, items: list[Due]) -> Embedder | None:
    """The model, loaded only where some of `items` have rows without a vector; None where it cannot be: they move without one."""
    bare = days_without_vectors(lake, lake.settings.embedding_model) if items else {}
    rows = sum(bare.get(item.event_day, 0) for item in items)
    if not rows:
        return None
    try:
        return Embedder.load(lake.settings)
    except EmbeddingUnavailable as error:
        logger.warning("rows move to a colder tier without a vector", extra={"rows": rows, "cause": str(error)})
        return None


def _move(lake: Lake, day: date, target: str, move: warm.Move, checkpoint: Checkpoint) -> Aged:
    started = time.monotonic()
    sources = [source for tier in TIERS[: TIERS.index(target)] if (source := populations.opened(lake, tier, day)) and source.rows]
    moved = sum(source.rows for source in sources)
    if not moved:
        return Aged(day, target, 0, 0, 0, None, 0, 0.0, None)
    found = recall.gate(lake, day, target, [(source.table, source.spec) for source in sources], move.policy)
    checkpoint("gated")

    table = lake.create(address(target))
    into = populations.Source(target, table, lake.spec(address(target)), populations.rows_of(table, day))
    lying = [*sources, *([into] if into.rows else [])]
    metadata = {"akosha_op": "age", "event_day": day.isoformat(), "policy_version": move.policy.version, "aged_by": move.aged_by}
    metrics = cold.DailyMetrics()
    with duckdb.connect() as connection:
        read, sent, found_back = Digest(connection), Digest(connection), Digest(connection)
        batches = populations.in_order(_formed(lying, day, target, move, read))
        batches = metrics.counted(batches) if target == COLD else batches
        version = days.replace(into.table, into.spec, sent.of(batches), days.predicate(day), writer=f"age/{day}", metadata=metadata)
        checkpoint("written")

        for _ in found_back.of(populations.rebatched(days.stream(into.table, into.spec, into.spec.schema.names, days.predicate(day)))):
            pass
    if found_back != sent or read.keys != sent.keys:
        raise MoveUnverified(day, target, sent, found_back)
    checkpoint("verified")

    if target == COLD:
        daily = lake.create(address("metrics"))
        days.replace(daily, DAILY_METRICS, metrics.table().to_batches(), days.predicate(day), writer=f"age/{day}", metadata=metadata)
    _record(lake, day, target, sent, found, move)
    checkpoint("recorded")

    # The colder source first: its rows may be older forms of what the hotter one still holds.
    for source in reversed(sources):
        days.remove(source.table, days.predicate(day), writer=f"age/{day}", metadata=metadata)
        checkpoint(f"flipped:{source.tier}")
    return Aged(day, target, sent.rows, moved, sent.rows_without_vector, found.at_10, found.probes, time.monotonic() - started, version)


def _formed(lying: list[populations.Source], day: date, target: str, move: warm.Move, read: Digest) -> Iterator[pa.RecordBatch]:
    """Every memory of the sources once, in the form of `target`."""
    superseded = populations.superseded(lying, day)
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
        for batch in populations.rebatched(days.stream(source.table, source.spec, columns, days.predicate(day))):
            kept = batch if losers is None else batch.filter(pc.invert(pc.is_in(populations.keys(batch), value_set=losers)))
            if kept.num_rows:
                read.add_keys(kept)
                yield form(kept)


def _record(lake: Lake, day: date, target: str, sent: Digest, found: recall.Recall, move: warm.Move) -> None:
    row = {
        "event_day": day,
        "tier": target,
        "rows": sent.rows,
        "rows_without_vector": sent.rows_without_vector,
        "recall_at_10": found.at_10,
        "policy_version": move.policy.version,
        "policy": move.policy.json,
        "moved_at": move.moved_at,
        "aged_by": move.aged_by,
    }
    writer = f"moves/{day}"
    known = lake.create(address("moves")).transaction_version(writer)
    lake.append(address("moves"), pa.Table.from_pylist([row], MOVES.schema), Fence(writer, (known or 0) + 1), {"akosha_op": "age"})
