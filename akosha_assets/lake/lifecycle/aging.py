"""Ages event days: finds the days that are due and moves them. Safe to stop anywhere and to run again.

`moving.py` moves one day; docs/lifecycle.md describes the steps. `retention.py` deletes rows that are past cold.
"""

import logging
import queue
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime

from threadpoolctl import threadpool_limits

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.embeddings import Embedder
from akosha_assets.lake.errors import EmbeddingUnavailable, InvalidRequest, RecallBelowPolicy, TableContended
from akosha_assets.lake.lifecycle import warm
from akosha_assets.lake.lifecycle.hot import days_without_vectors, embed_day
from akosha_assets.lake.lifecycle.moving import LARGE_DAY_ROWS, Aged, Checkpoint, move_day, no_checkpoint
from akosha_assets.lake.lifecycle.placement import TIERS, days_in
from akosha_assets.lake.lifecycle.policy import COLD, EXPIRED, HOT, WARM, TierPolicy
from akosha_assets.lake.lifecycle.table_cache import TableCache

logger = logging.getLogger(__name__)

ATTEMPTS = 5
Outcome = Aged | RecallBelowPolicy | TableContended


@dataclass(frozen=True)
class Due:
    """An event day with rows in a hotter tier than its age asks for. `tier`: where it belongs."""

    event_day: date
    tier: str
    rows: int
    stored_bytes: int


def due(lake: Lake, policy: TierPolicy, today: date) -> list[Due]:
    """The days to age on `today`, oldest first. Reads the table logs only."""
    by_day: dict[date, Due] = {}
    stored_days = days_in(lake)
    for tier in (HOT, WARM):
        for event_day, stored in stored_days[tier].items():
            target = target_of(policy, event_day, today)
            if stored.rows and TIERS.index(target) > TIERS.index(tier):
                hotter = by_day.get(event_day, Due(event_day, target, 0, 0))
                by_day[event_day] = Due(
                    event_day, target, hotter.rows + stored.rows, hotter.stored_bytes + stored.stored_bytes
                )
    return [by_day[event_day] for event_day in sorted(by_day)]


def target_of(policy: TierPolicy, event_day: date, today: date) -> str:
    """The tier that aging moves `event_day` to: cold for expired days, which only retention deletes."""
    tier = policy.tier_of(event_day, today)
    return COLD if tier == EXPIRED else tier


def age_day(
    lake: Lake,
    event_day: date,
    *,
    move: warm.Move,
    today: date,
    embedder: Embedder | None = None,
    checkpoint: Checkpoint = no_checkpoint,
    handles: TableCache | None = None,
) -> Aged:
    """Moves the rows of `event_day` to the tier of its age; does nothing if no hotter tier has any.

    Rows without a vector get one from `embedder` first, because the next form no longer has their whole text.

    `checkpoint` is called with the name of each step once it is durable: gated, written, verified, recorded, and
    flipped:TIER for each tier that the rows left. `handles`: those of the calling thread, if it has any.

    Raises:
        InvalidRequest: the day belongs in hot.
        RecallBelowPolicy: the recall of the new form is below the policy; the day stays.
        MoveUnverified: the rows written differ from the rows read; the day stays.
        TableContended: other writers changed the day at every attempt.
    """
    target = target_of(move.policy, event_day, today)
    if target == HOT:
        raise InvalidRequest("event_day", f"{event_day} belongs in hot until {move.policy.moves_on(event_day, HOT)}")
    if embedder is not None:
        embed_day(lake, event_day, embedder, run_id=move.aged_by)
    with ExitStack() as own:
        handles = handles or own.enter_context(TableCache(lake))
        for attempt in range(ATTEMPTS):
            try:
                return move_day(handles, event_day, target, move, checkpoint)
            except TableContended as error:
                logger.info(
                    "another writer changed a day while it moved",
                    extra={"event_day": str(event_day), "attempt": attempt, "cause": str(error)},
                )
                last = error
    raise last


def age(
    lake: Lake, items: list[Due], *, policy: TierPolicy, today: date, moved_at: datetime, run: str
) -> Iterator[Aged | RecallBelowPolicy]:
    """Ages `items`, several at a time, and yields the result of each in their order.

    A day that the recall gate stops is yielded as its error.

    Raises:
        TableContended: other writers changed a day at every attempt; raised after the other days were aged.
    """
    embedder = embedder_for(lake, items)
    move = warm.Move(policy, moved_at, run)

    def age_item(item: Due) -> Outcome:
        handles = free.get()
        try:
            return age_day(lake, item.event_day, move=move, today=today, embedder=embedder, handles=handles)
        except (RecallBelowPolicy, TableContended) as error:
            logger.warning(
                "a day stays in its tier for now",
                extra={"event_day": str(item.event_day), "tier": item.tier, "cause": str(error)},
            )
            return error
        finally:
            free.put(handles)

    contended: TableContended | None = None
    stored_days = days_in(lake)
    rows_of = {
        item.event_day: sum(tier[item.event_day].rows for tier in stored_days.values() if item.event_day in tier)
        for item in items
    }
    at_once = lake.settings.aging_days_at_once
    # Days run in parallel; BLAS threads below them would only wait for each other.
    with ExitStack() as stack, threadpool_limits(1, "blas"):
        free: queue.SimpleQueue[TableCache] = queue.SimpleQueue()
        for _ in range(at_once):
            free.put(stack.enter_context(TableCache(lake)))
        for outcome in _in_order([(item, rows_of[item.event_day]) for item in items], age_item, at_once):
            if isinstance(outcome, TableContended):
                contended = outcome
            else:
                yield outcome
    if contended is not None:
        raise contended


def _in_order(items: list[tuple[Due, int]], work: Callable[[Due], Outcome], at_once: int) -> Iterator[Outcome]:
    """Yields the result of `work` for each of `items`, which come with their rows.

    `at_once` days run in parallel; a large day runs alone, in the calling thread.
    """
    pending: deque[Future[Outcome]] = deque()
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="age")
    try:
        for item, rows in items:
            is_large = rows > LARGE_DAY_ROWS
            while pending and (is_large or len(pending) > 2 * at_once):
                yield pending.popleft().result()
            if is_large:
                yield work(item)
            else:
                pending.append(pool.submit(work, item))
        while pending:
            yield pending.popleft().result()
    finally:
        # Running days finish; the next run ages the others.
        pool.shutdown(cancel_futures=True)


def embedder_for(lake: Lake, items: list[Due]) -> Embedder | None:
    """The model if some of `items` have rows without a vector; None if none have, or if the model cannot be loaded."""
    missing = days_without_vectors(lake, lake.settings.embedding_model) if items else {}
    rows = sum(missing.get(item.event_day, 0) for item in items)
    if not rows:
        return None
    try:
        return Embedder.load(lake.settings)
    except EmbeddingUnavailable as error:
        logger.warning("rows move to a colder tier without a vector", extra={"rows": rows, "cause": str(error)})
        return None
