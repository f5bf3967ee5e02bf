"""`lifecycle/cold`: event days past the warm window, and the sensor that requests runs for days that are due."""

from collections.abc import Iterator

import dagster as dg

from akosha_assets.defs.aging import POOL, SWEEP_SECONDS, age_partitions, recall_check, request_due_days
from akosha_assets.defs.lifecycle.warm import age_to_warm
from akosha_assets.defs.metadata import OWNERS, table_metadata
from akosha_assets.defs.partitions import EVENT_DAYS
from akosha_assets.defs.schedules import BACKGROUND
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.tiers import Tier


@dg.asset(
    key=["lifecycle", "cold"],
    deps=[dg.AssetKey(["lifecycle", "warm"])],
    group_name="lifecycle",
    owners=OWNERS,
    kinds={"deltalake"},
    partitions_def=EVENT_DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=[recall_check(Tier.COLD.value)],
    # Only days that moved are materialized.
    output_required=False,
    pool=POOL,
    metadata=table_metadata("lifecycle/cold"),
)
def cold(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> Iterator[dg.AssetCheckResult]:
    """Memories past the warm window: one sentence, a compact fingerprint, a 1-bit sketch of the vector, and daily
    metrics.
    """
    yield from age_partitions(context, lake, Tier.COLD.value)


age_to_cold = dg.define_asset_job(
    "age_to_cold",
    selection=[cold],
    description="Moves event days that are due from the hot or warm to the cold tier.",
    executor_def=dg.in_process_executor,
    tags=BACKGROUND,
)


@dg.sensor(
    jobs=[age_to_warm, age_to_cold],
    minimum_interval_seconds=SWEEP_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def days_due(context: dg.SensorEvaluationContext, lake: dg.ResourceParam[Lake]) -> Iterator[dg.RunRequest]:
    """Requests runs for event days that are in a hotter tier than their age requires, because time passed or rows came
    late.
    """
    from akosha_assets.lake.watch.bootstrap import is_orchestrated

    if is_orchestrated(lake.settings):
        return
    yield from request_due_days(context, lake, {Tier.WARM.value: age_to_warm.name, Tier.COLD.value: age_to_cold.name})
