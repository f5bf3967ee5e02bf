"""Ages event days: finds the days that are due and moves them. Safe to stop anywhere and to run again.

`moving.py` moves the days; docs/lifecycle.md describes the steps. `retention.py` deletes rows that are past cold.
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
from akosha_assets.lake.lifecycle.assumed_times import days_with_new_rows
from akosha_assets.lake.lifecycle.hot import days_without_passages, days_without_vectors, embed_day, embed_passages
from akosha_assets.lake.lifecycle.moving import (
    LARGE_DAY_ROWS,
    Aged,
    Checkpoint,
    can_move_together,
    move_days,
    no_checkpoint,
)
from akosha_assets.lake.lifecycle.placement import days_in
from akosha_assets.lake.lifecycle.policy import EXPIRED, TierPolicy
from akosha_assets.lake.lifecycle.table_cache import TableCache
from akosha_assets.lake.tiers import TIERS, Tier

logger = logging.getLogger(__name__)

ATTEMPTS = 5
# Small days that move in one commit of each table.
GROUP_DAYS = 128
Outcome = Aged | RecallBelowPolicy | TableContended


@dataclass(frozen=True)
class Due:
    """An event day with rows in a hotter tier than its age asks for. `tier`: where it belongs."""

    event_day: date
    tier: str
    rows: int
    stored_bytes: int


def due(lake: Lake, policy: TierPolicy, today: date) -> list[Due]:
    """The days to age on `today`, oldest first.

    A day with new rows in hot whose time is assumed is left out (`assumed_times.py`). Reads table logs, and data files
    of days that are due in hot.
    """
    by_day: dict[date, Due] = {}
    stored_days = days_in(lake)
    for tier in (Tier.HOT, Tier.WARM):
        for event_day, stored in stored_days[tier].items():
            target = target_of(policy, event_day, today)
            if stored.rows and TIERS.index(target) > TIERS.index(tier):
                hotter = by_day.get(event_day, Due(event_day, target, 0, 0))
                by_day[event_day] = Due(
                    event_day, target, hotter.rows + stored.rows, hotter.stored_bytes + stored.stored_bytes
                )
    in_hot = [event_day for event_day in by_day if event_day in stored_days[Tier.HOT]]
    waiting = days_with_new_rows(lake, in_hot, today)
    return [by_day[event_day] for event_day in sorted(by_day) if event_day not in waiting]


def target_of(policy: TierPolicy, event_day: date, today: date) -> str:
    """The tier that aging moves `event_day` to: cold for expired days, which only retention deletes."""
    tier = policy.tier_of(event_day, today)
    return Tier.COLD if tier == EXPIRED else tier


def age_day(
    lake: Lake,
    event_day: date,
    *,
    move: warm.Move,
    today: date,
    embedder: Embedder | None = None,
    checkpoint: Checkpoint = no_checkpoint,
) -> Aged:
    """Moves the rows of `event_day` to the tier of its age; does nothing if no hotter tier has any.

    Rows without a vector or without passages get them from `embedder` first, because the next form no longer has
    their whole text.

    `checkpoint` is called with the name of each step once it is durable: gated, written, verified, recorded, and
    flipped:TIER for each tier that the rows left.

    Raises:
        InvalidRequest: the day belongs in hot.
        RecallBelowPolicy: the recall of the new form is below the policy; the day stays.
        MoveUnverified: the rows written differ from the rows read; the day stays.
        TableContended: other writers changed the day at every attempt.
    """
    target = target_of(move.policy, event_day, today)
    if target == Tier.HOT:
        raise InvalidRequest(
            "event_day", f"{event_day} belongs in hot until {move.policy.moves_on(event_day, Tier.HOT)}"
        )
    if embedder is not None:
        embed_day(lake, event_day, embedder, run_id=move.aged_by)
        embed_passages(lake, event_day, embedder, run_id=move.aged_by)
    with TableCache(lake) as handles:
        (aged,) = _move(handles, [event_day], target, move, checkpoint)
    return aged


def _move(
    handles: TableCache, event_days: list[date], target: str, move: warm.Move, checkpoint: Checkpoint = no_checkpoint
) -> list[Aged]:
    """Moves the days, up to `ATTEMPTS` times if other writers change them. Raises as `move_days`."""
    for attempt in range(ATTEMPTS):
        try:
            return move_days(handles, event_days, target, move, checkpoint)
        except TableContended as error:
            logger.info(
                "another writer changed a day while it moved",
                extra={"event_days": f"{event_days[0]}/{event_days[-1]}", "attempt": attempt, "cause": str(error)},
            )
            last = error
    raise last


def age(
    lake: Lake, items: list[Due], *, policy: TierPolicy, today: date, moved_at: datetime, run: str
) -> Iterator[Aged | RecallBelowPolicy]:
    """Ages `items`, several at a time, and yields the result of each in their order.

    Small days of one tier move together, so that many of them take few commits. A day that the recall gate stops is
    yielded as its error.

    Raises:
        InvalidRequest: a day belongs in hot.
        TableContended: other writers changed a day at every attempt; raised after the other days were aged.
    """
    for item in items:
        if target_of(policy, item.event_day, today) == Tier.HOT:
            raise InvalidRequest("event_day", f"{item.event_day} belongs in hot")
    embedder, missing = embedder_for(lake, items)
    move = warm.Move(policy, moved_at, run)

    def age_group(group: list[Due]) -> list[Outcome]:
        handles = free.get()
        try:
            if embedder is not None:
                for event_day in [item.event_day for item in group if item.event_day in missing]:
                    embed_day(lake, event_day, embedder, run_id=run)
                    embed_passages(lake, event_day, embedder, run_id=run)
            return _age_group(handles, group, move)
        finally:
            free.put(handles)

    contended: TableContended | None = None
    rows_of = _count_rows(lake, items)
    at_once = lake.settings.aging_days_at_once
    # Groups run in parallel; BLAS threads below them would only wait for each other.
    with ExitStack() as stack, threadpool_limits(1, "blas"):
        free: queue.SimpleQueue[TableCache] = queue.SimpleQueue()
        for _ in range(at_once):
            free.put(stack.enter_context(TableCache(lake)))
        for outcome in _in_order(group_small_days(items, rows_of), rows_of, age_group, at_once):
            if isinstance(outcome, TableContended):
                contended = outcome
            else:
                yield outcome
    if contended is not None:
        raise contended


def _count_rows(lake: Lake, items: list[Due]) -> dict[date, int]:
    """The rows of the day of each item in all tiers."""
    stored = days_in(lake).values()
    return {
        item.event_day: sum(tier[item.event_day].rows for tier in stored if item.event_day in tier) for item in items
    }


def group_small_days(items: list[Due], rows_of: dict[date, int]) -> list[list[Due]]:
    """`items` in their order, neighbours of one tier that may move together in one list, all others alone."""
    groups: list[list[Due]] = []
    for item in items:
        group = groups[-1] if groups else []
        if (
            group
            and len(group) < GROUP_DAYS
            and group[-1].tier == item.tier
            and all(can_move_together(rows_of[one.event_day]) for one in (group[-1], item))
        ):
            group.append(item)
        else:
            groups.append([item])
    return groups


def _age_group(handles: TableCache, group: list[Due], move: warm.Move) -> list[Outcome]:
    try:
        return list(_move(handles, [item.event_day for item in group], group[0].tier, move))
    except (RecallBelowPolicy, TableContended) as error:
        if len(group) > 1:
            # Another writer keeps changing one of the days; the others move without it.
            return [outcome for item in group for outcome in _age_group(handles, [item], move)]
        day, tier = str(group[0].event_day), group[0].tier
        logger.warning("a day stays in its tier for now", extra={"event_day": day, "tier": tier, "cause": str(error)})
        return [error]


def _in_order(
    groups: list[list[Due]], rows_of: dict[date, int], work: Callable[[list[Due]], list[Outcome]], at_once: int
) -> Iterator[Outcome]:
    """Yields the results of `work` for `groups`, in their order.

    `at_once` groups run in parallel; a large day runs alone, in the calling thread.
    """
    pending: deque[Future[list[Outcome]]] = deque()
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="age")
    try:
        for group in groups:
            is_large = rows_of[group[0].event_day] > LARGE_DAY_ROWS
            while pending and (is_large or len(pending) > 2 * at_once):
                yield from pending.popleft().result()
            if is_large:
                yield from work(group)
            else:
                pending.append(pool.submit(work, group))
        while pending:
            yield from pending.popleft().result()
    finally:
        # Running groups finish; the next run ages the others.
        pool.shutdown(cancel_futures=True)


def embedder_for(lake: Lake, items: list[Due]) -> tuple[Embedder | None, set[date]]:
    """The model, and the days of `items` that have rows without a vector, or long texts that were not cut.

    The model is None if no day has such rows, or if it cannot be loaded: then they move as they are.
    """
    event_days = {item.event_day for item in items}
    if not event_days:
        return None, event_days
    space = lake.settings.embedding_model
    rows_of = {day: rows for day, rows in days_without_vectors(lake, space).items() if day in event_days}
    uncut = days_without_passages(lake, space, event_days)
    missing = {*rows_of, *uncut}
    if not missing:
        return None, missing
    try:
        return Embedder.load(lake.settings), missing
    except EmbeddingUnavailable as error:
        counts = {"rows": sum(rows_of.values()), "rows_without_passages": sum(uncut.values())}
        logger.warning("rows move to a colder tier without vectors", extra={**counts, "cause": str(error)})
        return None, missing
