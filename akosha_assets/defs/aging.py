"""What `lifecycle/warm` and `lifecycle/cold` share: the run over a range of event days, and the requests for such runs.

A run over a range moves the days of the range that are due, in any order, so a backfill over years is cheap. How a day
moves is in `lake/lifecycle/aging.py`.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from akosha_assets.defs.metadata import day_key
from akosha_assets.defs.partitions import EVENT_DAYS, is_event_day
from akosha_assets.defs.schedules import exclusive, run_in_progress
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.ledger.duty_lease import Duty
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle.reprocessing import ReprocessedDay
from akosha_assets.lake.tiers import Tier

if TYPE_CHECKING:
    from akosha_assets.lake.errors import RecallBelowPolicy
    from akosha_assets.lake.lifecycle.moving import Aged

logger = logging.getLogger(__name__)

# Runs that rewrite tables or days share a pool of one: side by side they would conflict with each other.
POOL = "tables"
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
# Tag of runs that `request_due_days` asked for.
DUE = "akosha/due"
CHECK = "recall_at_10"
# A day that failed its recall check, or whose run died, is requested again after this long.
REQUEST_AGAIN_SECONDS = 3600
SWEEP_SECONDS = 300
MAX_GAP_DAYS = 60
MAX_RANGES = 10


def recall_check(tier: str) -> dg.AssetCheckSpec:
    """The check of `tier` that stops a day whose new form has too low a recall.

    `tier` is a plain string: Dagster cannot serialise an asset key with a subclass of str.
    """
    return dg.AssetCheckSpec(
        CHECK,
        asset=["lifecycle", tier],
        blocking=True,
        description="For each day, recall@10 of the new form against the old one is at least what the policy requires.",
    )


def age_partitions(context: dg.AssetExecutionContext, lake: Lake, tier: str) -> Iterator[dg.AssetCheckResult]:
    """Every day of the run that is due for `tier` was moved there, or failed the recall check. Days that moved are
    materialized.

    Raises:
        Failure: another process is aging.
    """
    from akosha_assets.lake.ingestion.ledger.known_tables import guarded

    with exclusive(lake, Duty.AGING, context.log) as is_ours:
        if not is_ours:
            # The run must not report a check result for days that were not checked.
            raise dg.Failure("another process is aging; nothing was moved", allow_retries=False)
        with guarded(lake):
            yield from _age_partitions(context, lake, tier)


def _age_partitions(context: dg.AssetExecutionContext, lake: Lake, tier: str) -> Iterator[dg.AssetCheckResult]:
    from akosha_assets.lake.errors import RecallBelowPolicy
    from akosha_assets.lake.lifecycle.aging import age, due
    from akosha_assets.lake.lifecycle.moving import Aged

    policy, now = TierPolicy.of(lake.settings), datetime.now(UTC)
    days = {date.fromisoformat(key) for key in context.partition_keys}
    first, last = min(days), max(days)
    # Days before the first partition have no key; they move with the run that includes the first partition.
    includes_older = first <= date.fromisoformat(EVENT_DAYS.get_first_partition_key() or "")
    items = [
        item
        for item in due(lake, policy, now.date())
        if item.tier == tier and (item.event_day in days or (includes_older and item.event_day < first))
    ]
    moved: list[Aged] = []
    refused: list[RecallBelowPolicy] = []
    for outcome in age(lake, items, policy=policy, today=now.date(), moved_at=now, run=context.run.run_id):
        if isinstance(outcome, Aged):
            moved.append(outcome)
            values = {name: value for name, value in asdict(outcome).items() if name != "event_day"}
            values["tier"] = str(outcome.tier)
            _materialize(context, tier, outcome.event_day, values)
        else:
            refused.append(outcome)
    if DUE not in context.run.tags:
        # Runs that the sensor requests skip this: it takes long, and their days are urgent.
        methods = {
            "summary_method": policy.summary_method,
            "vector_method": policy.vector_method,
            "sketch_method": policy.sketch_method,
        }
        for day in _reprocess(lake, tier, policy, first=first, last=last, now=now, run=context.run.run_id):
            counts = {name: value for name, value in asdict(day).items() if name.startswith("rows_")}
            _materialize(context, tier, day.event_day, counts | methods)
    if len(days) == 1 and not items:
        context.log.info("nothing to move: %s belongs in %s", first, str(policy.tier_of(first, now.date())))
    yield _recall_result(policy, tier, moved, refused)


def _recall_result(
    policy: TierPolicy, tier: str, moved: "list[Aged]", refused: "list[RecallBelowPolicy]"
) -> dg.AssetCheckResult:
    recalls = [
        *[outcome.recall_at_10 for outcome in moved if outcome.recall_at_10 is not None],
        *[error.recall for error in refused],
    ]
    return dg.AssetCheckResult(
        check_name=CHECK,
        passed=not refused,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(str(error) for error in refused[:20]) or None,
        metadata={
            "required": policy.required_recall(tier),
            "days_moved": len(moved),
            "days_stopped": len(refused),
            "rows_moved": sum(outcome.rows_moved for outcome in moved),
            "policy_version": policy.version,
            **({"lowest_recall": min(recalls)} if recalls else {}),
        },
    )


def _reprocess(
    lake: Lake, tier: str, policy: TierPolicy, *, first: date, last: date, now: datetime, run: str
) -> Iterator[ReprocessedDay]:
    """Rows that moved earlier are in the form of the present methods, as far as their stored form allows; yields each
    day that changed. Vectors need an embedding model.
    """
    from akosha_assets.lake.embeddings import Embedder
    from akosha_assets.lake.errors import EmbeddingUnavailable
    from akosha_assets.lake.lifecycle.reprocessing import reprocess_day, reprocessable_days

    found = reprocessable_days(lake, tier, policy, first=first, last=last, space=lake.settings.embedding_model)
    embedder: Embedder | None = None
    if any(todo.embedded for todo in found.values()):
        try:
            embedder = Embedder.load(lake.settings)
        except EmbeddingUnavailable as error:
            logger.warning("rows stay without a vector of the present model", extra={"tier": tier, "cause": str(error)})
    remaining = sum(todo.left for todo in found.values())
    if remaining:
        logger.warning("rows keep an older form because their source is gone", extra={"tier": tier, "rows": remaining})
    for day, todo in found.items():
        if todo.resummarised or todo.requantised or (todo.embedded and embedder is not None):
            yield reprocess_day(lake, tier, day, policy=policy, renewed_at=now, run=run, embedder=embedder)


def ranges(event_days: list[date]) -> list[tuple[date, date]]:
    """At most `MAX_RANGES` partition ranges, first and last day inclusive, that cover the first of `event_days`, which
    are sorted.

    Dagster writes an event for each partition of a run, so two runs are cheaper than a gap of more than `MAX_GAP_DAYS`.
    """
    earliest = date.fromisoformat(EVENT_DAYS.get_first_partition_key() or "")
    found: list[tuple[date, date]] = []
    for event_day in event_days:
        day = max(event_day, earliest)
        if found and (day - found[-1][1]).days <= MAX_GAP_DAYS:
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found[:MAX_RANGES]


def request_due_days(
    context: dg.SensorEvaluationContext, lake: Lake, job_names: dict[str, str]
) -> Iterator[dg.RunRequest]:
    """Runs for each tier that has due days and no run in progress. The cursor holds what was requested, and when."""
    from akosha_assets.lake.lifecycle.aging import due

    now = datetime.now(UTC)
    requested = json.loads(context.cursor) if context.cursor else {}
    found = due(lake, TierPolicy.of(lake.settings), now.date())
    for tier in (Tier.COLD.value, Tier.WARM.value):
        items = [item for item in found if item.tier == tier]
        if not items or run_in_progress(context.instance, job_names[tier], now=now) is not None:
            continue
        state = (
            f"{items[0].event_day}..{items[-1].event_day}: {len(items)} days, {sum(item.rows for item in items)} rows"
        )
        before = requested.get(tier, {})
        # A time in the future was written by a clock that was ahead.
        if before.get("state") == state and 0 <= now.timestamp() - before["at"] < REQUEST_AGAIN_SECONDS:
            continue
        requested[tier] = {"state": state, "at": now.timestamp()}
        for start, end in ranges([item.event_day for item in items]):
            yield dg.RunRequest(
                job_name=job_names[tier], tags={RANGE_START: day_key(start), RANGE_END: day_key(end), DUE: tier}
            )
    context.update_cursor(json.dumps(requested))


def _materialize(context: dg.AssetExecutionContext, tier: str, day: date, metadata: dict[str, Any]) -> None:
    if is_event_day(day_key(day)):
        known = {name: value for name, value in metadata.items() if value is not None}
        context.log_event(dg.AssetMaterialization(["lifecycle", tier], partition=day_key(day), metadata=known))
