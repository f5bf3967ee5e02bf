"""`ingestion/backlog`: materialized only while every upload older than a limit is ingested.

Its freshness is therefore the time since ingestion was last caught up. The checks report how many uploads wait and for
how long, also where nothing was ever ingested. A sensor records all of this without a run.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from akosha_assets.defs.metadata import OWNERS
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.backlog import Backlog, Verdict
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.settings import LakeSettings

KEY = dg.AssetKey(["ingestion", "backlog"])
SIZE, AGE = "waiting_uploads", "oldest_upload"
# Dagster keeps every event, so unchanged states are recorded this often.
REPEAT_SECONDS = 60


@dg.asset(
    key=KEY,
    deps=[dg.AssetKey(["ingestion", "ledger"])],
    group_name="ingestion",
    owners=OWNERS,
    kinds={"sqlite", "postgres"},
    output_required=False,
)
def backlog(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> Iterator[dg.MaterializeResult[None]]:
    """How many uploads wait, their bytes and the age of the oldest. Materialized only while ingestion is caught up, so
    that its freshness is the alarm.
    """
    from akosha_assets.lake.ingestion.backlog import is_caught_up

    measured, _ = _measure(lake.settings)
    if is_caught_up(measured, lake.settings):
        yield dg.MaterializeResult(metadata=backlog_metadata(measured))
    else:
        context.log.info(
            "%d uploads wait, the oldest for %d s; ingestion is not caught up, so nothing is materialized",
            measured.waiting,
            measured.oldest_waiting_seconds,
        )


@dg.asset_check(asset=KEY, name=SIZE)
def waiting_uploads(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """Warns if more than AKOSHA_BACKLOG_WARN_UPLOADS wait for AKOSHA_BACKLOG_WARN_FOR_SECONDS; fails likewise by
    AKOSHA_BACKLOG_ERROR_UPLOADS and AKOSHA_BACKLOG_ERROR_FOR_SECONDS.
    """
    measured, verdicts = _measure(lake.settings)
    return dg.AssetCheckResult(check_name=SIZE, **_result(verdicts[SIZE], measured))


@dg.asset_check(asset=KEY, name=AGE)
def oldest_upload(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
    """Warns if an upload waits longer than AKOSHA_BACKLOG_WARN_SECONDS, fails beyond AKOSHA_BACKLOG_FAIL_SECONDS."""
    measured, verdicts = _measure(lake.settings)
    return dg.AssetCheckResult(check_name=AGE, **_result(verdicts[AGE], measured))


@dg.sensor(target=[KEY], minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def backlog_sensor(context: dg.SensorEvaluationContext, lake: dg.ResourceParam[Lake]) -> dg.SensorResult:
    """Measures the backlog every few seconds and records the checks, without a run. Materializes the asset while
    ingestion is caught up.
    """
    from akosha_assets.lake.ingestion.backlog import is_caught_up

    measured, verdicts = _measure(lake.settings)
    caught_up = is_caught_up(measured, lake.settings)
    state = {"caught_up": caught_up, **{name: verdict.level for name, verdict in verdicts.items()}}
    before: dict[str, Any] = json.loads(context.cursor) if context.cursor else {}
    now = measured.measured_at.timestamp()
    summary = f"{measured.waiting} uploads wait, the oldest for {measured.oldest_waiting_seconds:.0f} s"
    if before.get("state") == state and 0 <= now - before["at"] < REPEAT_SECONDS:
        return dg.SensorResult(skip_reason=summary)
    events: list[Any] = [
        dg.AssetCheckEvaluation(asset_key=KEY, check_name=name, **_result(verdict, measured))
        for name, verdict in verdicts.items()
    ]
    if caught_up:
        events.append(dg.AssetMaterialization(KEY, metadata=backlog_metadata(measured)))
    return dg.SensorResult(skip_reason=summary, asset_events=events, cursor=json.dumps({"state": state, "at": now}))


def backlog_metadata(measured: Backlog) -> dict[str, int | float]:
    """The backlog as metadata; rates are uploads per second."""
    return {
        "waiting": measured.waiting,
        "waiting bytes": measured.waiting_bytes,
        "oldest waiting seconds": round(measured.oldest_waiting_seconds, 1),
        "arrivals per second": round(measured.arrivals_per_second, 2),
        "drained per second": round(measured.drained_per_second, 2),
        "share of the largest system": round(measured.largest_system_share, 3),
        "quarantined": measured.quarantined,
        "incomplete": measured.incomplete,
    }


def _measure(settings: LakeSettings) -> tuple[Backlog, dict[str, Verdict]]:
    from akosha_assets.lake.ingestion.backlog import judge_age, judge_size, measure

    ledger = Ledger.open(settings)
    try:
        measured = measure(ledger, now=datetime.now(UTC))
        return measured, {SIZE: judge_size(ledger, measured), AGE: judge_age(settings, measured)}
    finally:
        ledger.close()


def _result(verdict: Verdict, measured: Backlog) -> dict[str, Any]:
    return {
        "passed": verdict.level == "ok",
        "severity": dg.AssetCheckSeverity.ERROR if verdict.level == "error" else dg.AssetCheckSeverity.WARN,
        "description": verdict.reason,
        "metadata": backlog_metadata(measured),
    }
