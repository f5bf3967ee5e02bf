"""Age event days: which are due, and all of them moved; safe to stop anywhere, and to run again.

How one day moves is in `moving.py`; the steps and what each leaves behind are told in docs/lifecycle.md. Deleting what
has left cold is in `retention.py`.
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
from akosha_assets.lake.lifecycle.moving import LARGE_DAY_ROWS, Aged, Checkpoint, move_day, unwatched
from akosha_assets.lake.lifecycle.placement import TIERS, days_in
from akosha_assets.lake.lifecycle.policy import COLD, EXPIRED, HOT, WARM, TierPolicy
from akosha_assets.lake.lifecycle.table_cache import TableCache

logger = logging.getLogger(__name__)

ATTEMPTS = 5
Outcome = Aged | RecallBelowPolicy | TableContended


@dataclass(frozen=True)
class Due:
    """An event day that lies in a hotter tier than its age asks for."""

    event_day: date
    tier: str
    rows: int
    stored_bytes: int


def due(lake: Lake, policy: TierPolicy, today: date) -> list[Due]:
    """The days to age on `today`, oldest first, from the table logs alone."""
    found: dict[date, Due] = {}
    lying = days_in(lake)
    for tier in (HOT, WARM):
        for event_day, stored in lying[tier].items():
            target = target_of(policy, event_day, today)
            if stored.rows and TIERS.index(target) > TIERS.index(tier):
                before = found.get(event_day, Due(event_day, target, 0, 0))
                found[event_day] = Due(
                    event_day, target, before.rows + stored.rows, before.stored_bytes + stored.stored_bytes
                )
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
    handles: TableCache | None = None,
) -> Aged:
    """The rows of `event_day` lie in the tier that its age asks for, and in no hotter one. Nothing to move: nothing is
    done.

    Rows that were never embedded get their vector from `embedder` first: once their text is a sentence it is too late.

    `checkpoint` is told the name of each step that has become durable: gated, written, verified, recorded, and
    flipped:TIER for each tier that was left. `handles` are those of the calling thread, where it has some.

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
    with ExitStack() as own:
        handles = handles or own.enter_context(TableCache(lake))
        for attempt in range(ATTEMPTS):
            try:
                return move_day(handles, event_day, target, move, checkpoint)
            except TableContended as error:
                logger.info(
                    "day was touched while it moved",
                    extra={"event_day": str(event_day), "attempt": attempt, "cause": str(error)},
                )
                last = error
    raise last


def age(
    lake: Lake, items: list[Due], *, policy: TierPolicy, today: date, moved_at: datetime, run: str
) -> Iterator[Aged | RecallBelowPolicy]:
    """Each of `items` is aged, several at once; what came of each is yielded in their order.

    A day that the recall gate stops is yielded as its error.

    Raises:
        TableContended: other writers kept touching a day; raised when the others were aged.
    """
    embedder = embedder_for(lake, items)

    def aged(item: Due) -> Outcome:
        handles = free.get()
        try:
            return age_day(
                lake,
                item.event_day,
                policy=policy,
                today=today,
                moved_at=moved_at,
                run=run,
                embedder=embedder,
                handles=handles,
            )
        except (RecallBelowPolicy, TableContended) as error:
            logger.warning(
                "a day stays for now", extra={"event_day": str(item.event_day), "tier": item.tier, "cause": str(error)}
            )
            return error
        finally:
            free.put(handles)

    contended: TableContended | None = None
    lying = days_in(lake)
    rows_of = {
        item.event_day: sum(found[item.event_day].rows for found in lying.values() if item.event_day in found)
        for item in items
    }
    at_once = lake.settings.aging_days_at_once
    # Each day is a thread's work; threads of a BLAS below them would only wait for each other.
    with ExitStack() as held, threadpool_limits(1, "blas"):
        free: queue.SimpleQueue[TableCache] = queue.SimpleQueue()
        for _ in range(at_once):
            free.put(held.enter_context(TableCache(lake)))
        for outcome in _in_order([(item, rows_of[item.event_day]) for item in items], aged, at_once):
            if isinstance(outcome, TableContended):
                contended = outcome
            else:
                yield outcome
    if contended is not None:
        raise contended


def _in_order(items: list[tuple[Due, int]], work: Callable[[Due], Outcome], at_once: int) -> Iterator[Outcome]:
    """What `work` returns for each of `items`, `at_once` of them under way; days of many rows alone, in the calling
    thread.
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
        # Days under way come to their end; the next run takes up the others.
        pool.shutdown(cancel_futures=True)


def embedder_for(lake: Lake, items: list[Due]) -> Embedder | None:
    """The model, loaded only where some of `items` have rows without a vector; None where it cannot be: they move
    without one.
    """
    bare = days_without_vectors(lake, lake.settings.embedding_model) if items else {}
    rows = sum(bare.get(item.event_day, 0) for item in items)
    if not rows:
        return None
    try:
        return Embedder.load(lake.settings)
    except EmbeddingUnavailable as error:
        logger.warning("rows move to a colder tier without a vector", extra={"rows": rows, "cause": str(error)})
        return None
