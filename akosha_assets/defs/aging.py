"""What `lifecycle/warm` and `lifecycle/cold` share: a run over event days, and the sensor that asks for it.

A run over a range looks at every day of it and moves those that are due, in any order; that is how a backfill stays
cheap. What moving means is in `lake/lifecycle/aging.py`.
"""

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime

import dagster as dg

from akosha_assets.defs.metadata import day_key
from akosha_assets.defs.partitions import EVENT_DAYS, is_event_day
from akosha_assets.defs.schedules import run_under_way
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.lifecycle.policy import COLD, WARM, TierPolicy
from akosha_assets.lake.lifecycle.reprocessing import ReprocessedDay

logger = logging.getLogger(__name__)

# One run at a time works on whole tables or days: aging and upkeep would only undo each other's work by conflicts.
POOL = "tables"
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
DUE = "akosha/due"
CHECK = "recall_at_10"
# A day that the gate stopped, or whose run died, is asked for again after this long.
ASK_AGAIN_SECONDS = 3600
SWEEP_SECONDS = 300
MAX_GAP_DAYS = 60
MAX_RANGES = 10


def recall_check(tier: str) -> dg.AssetCheckSpec:
    """The gate of `tier`: a day whose new form answers too badly stays where it is, and nothing is built on the run."""
    return dg.AssetCheckSpec(
        CHECK,
        asset=["lifecycle", tier],
        blocking=True,
        description=(
            "Each day's stored probes, asked of its old and its new form, agree as well as the tier policy wants."
        ),
    )


def aged(context: dg.AssetExecutionContext, lake: Lake, tier: str) -> Iterator[dg.AssetCheckResult]:
    """The run's days that belong in `tier` lie there; each that moved is materialised, each that the gate stopped is in
    the check.
    """
    from akosha_assets.lake.ingestion.ledger.known_tables import guarded

    with guarded(lake):
        yield from _aged(context, lake, tier)


def _aged(context: dg.AssetExecutionContext, lake: Lake, tier: str) -> Iterator[dg.AssetCheckResult]:
    from akosha_assets.lake.errors import RecallBelowPolicy
    from akosha_assets.lake.lifecycle.aging import age, due
    from akosha_assets.lake.lifecycle.moving import Aged

    policy, now = TierPolicy.of(lake.settings), datetime.now(UTC)
    wanted = {date.fromisoformat(key) for key in context.partition_keys}
    first = min(wanted)
    # Days before the first partition have no key of their own; they move with the run that holds the first.
    outlying = first <= date.fromisoformat(EVENT_DAYS.get_first_partition_key() or "")
    items = [
        item
        for item in due(lake, policy, now.date())
        if item.tier == tier and (item.event_day in wanted or (outlying and item.event_day < first))
    ]
    moved: list[Aged] = []
    stopped: list[RecallBelowPolicy] = []
    for outcome in age(lake, items, policy=policy, today=now.date(), moved_at=now, run=context.run.run_id):
        if isinstance(outcome, Aged):
            moved.append(outcome)
            _materialised(
                context,
                tier,
                outcome.event_day,
                {name: value for name, value in asdict(outcome).items() if name != "event_day"},
            )
        else:
            stopped.append(outcome)
    # What the sensor asks for is urgent; embedding what moved long ago is not, and takes long.
    asked_for = DUE not in context.run.tags
    for renewed in (
        _renewed(lake, tier, policy, first=first, last=max(wanted), now=now, run=context.run.run_id)
        if asked_for
        else ()
    ):
        shown = {name: value for name, value in asdict(renewed).items() if name.startswith("rows_")}
        methods = {
            "summary_method": policy.summary_method,
            "vector_method": policy.vector_method,
            "sketch_method": policy.sketch_method,
        }
        _materialised(context, tier, renewed.event_day, shown | methods)
    recalls = [
        *[outcome.recall_at_10 for outcome in moved if outcome.recall_at_10 is not None],
        *[error.recall for error in stopped],
    ]
    if len(wanted) == 1 and not items:
        context.log.info("nothing to move: %s belongs in %s", first, policy.tier_of(first, now.date()))
    yield dg.AssetCheckResult(
        check_name=CHECK,
        passed=not stopped,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(str(error) for error in stopped[:20]) or None,
        metadata={
            "required": policy.required_recall(tier),
            "days_moved": len(moved),
            "days_stopped": len(stopped),
            "rows_moved": sum(outcome.rows_moved for outcome in moved),
            "policy_version": policy.version,
            **({"lowest_recall": min(recalls)} if recalls else {}),
        },
    )


def _renewed(
    lake: Lake, tier: str, policy: TierPolicy, *, first: date, last: date, now: datetime, run: str
) -> Iterator[ReprocessedDay]:
    """Days of the run whose rows moved earlier are of the present methods as far as what was kept allows; vectors need
    a model here.
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
            logger.warning("rows stay without a vector of the model", extra={"tier": tier, "cause": str(error)})
    left = sum(todo.left for todo in found.values())
    if left:
        logger.warning(
            "rows keep an older form, for what they were made of is gone", extra={"tier": tier, "rows": left}
        )
    for day, todo in found.items():
        if todo.resummarised or todo.requantised or (todo.embedded and embedder is not None):
            yield reprocess_day(lake, tier, day, policy=policy, renewed_at=now, run=run, embedder=embedder)


def ranges(event_days: list[date]) -> list[tuple[date, date]]:
    """Partition ranges that hold `event_days`, which are in order; the first `MAX_RANGES` of them.

    Dagster writes an event for each partition of a run, so a gap longer than `MAX_GAP_DAYS` is cheaper as two runs.
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


def _materialised(context: dg.AssetExecutionContext, tier: str, day: date, metadata: dict) -> None:
    if is_event_day(day_key(day)):
        shown = {name: value for name, value in metadata.items() if value is not None}
        context.log_event(dg.AssetMaterialization(["lifecycle", tier], partition=day_key(day), metadata=shown))


def requests(context: dg.SensorEvaluationContext, lake: Lake, job_names: dict[str, str]) -> Iterator[dg.RunRequest]:
    """Runs for each tier that has due days and no run under way; the cursor remembers what was asked for, and when."""
    from akosha_assets.lake.lifecycle.aging import due

    asked = json.loads(context.cursor) if context.cursor else {}
    found = due(lake, TierPolicy.of(lake.settings), datetime.now(UTC).date())
    for tier in (COLD, WARM):
        items = [item for item in found if item.tier == tier]
        if not items or run_under_way(context.instance, job_names[tier], now=datetime.now(UTC)) is not None:
            continue
        state = (
            f"{items[0].event_day}..{items[-1].event_day}: {len(items)} days, {sum(item.rows for item in items)} rows"
        )
        before = asked.get(tier, {})
        if before.get("state") == state and 0 <= time.time() - before["at"] < ASK_AGAIN_SECONDS:
            continue
        asked[tier] = {"state": state, "at": time.time()}
        for start, end in ranges([item.event_day for item in items]):
            yield dg.RunRequest(
                job_name=job_names[tier], tags={RANGE_START: day_key(start), RANGE_END: day_key(end), DUE: tier}
            )
    context.update_cursor(json.dumps(asked))
