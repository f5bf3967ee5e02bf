"""`lifecycle/aging` and `lifecycle/embeddings`: materialized only while nothing waits, so that their freshness is an
alarm.
"""

import json
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from akosha_assets.defs.metadata import OWNERS
from akosha_assets.lake.catalog import Lake

AGING = dg.AssetSpec(
    ["lifecycle", "aging"],
    deps=[dg.AssetKey(["lifecycle", tier]) for tier in ("hot", "warm", "cold")],
    description="Materialized only while every event day is in the tier that its age requires.",
    group_name="lifecycle",
    owners=OWNERS,
    kinds={"deltalake"},
)
EMBEDDINGS = dg.AssetSpec(
    ["lifecycle", "embeddings"],
    deps=[dg.AssetKey(["lifecycle", "hot"])],
    description="Materialized only while every hot row has its vector.",
    group_name="lifecycle",
    owners=OWNERS,
    kinds={"deltalake"},
)
REPEAT_SECONDS = 600


@dg.sensor(minimum_interval_seconds=300, default_status=dg.DefaultSensorStatus.RUNNING)
def duties_sensor(context: dg.SensorEvaluationContext, lake: dg.ResourceParam[Lake]) -> dg.SensorResult:
    """Materializes `lifecycle/aging` while no day waits to be aged and `lifecycle/embeddings` while no row waits for a
    vector, without a run.
    """
    from akosha_assets.lake.lifecycle.aging import due
    from akosha_assets.lake.lifecycle.hot import days_without_vectors
    from akosha_assets.lake.lifecycle.policy import TierPolicy

    now = datetime.now(UTC)
    waiting = {
        AGING.key: len(due(lake, TierPolicy.of(lake.settings), now.date())),
        EMBEDDINGS.key: sum(days_without_vectors(lake, lake.settings.embedding_model).values()),
    }
    # When each asset was last materialized, in seconds since the epoch.
    materialized_at: dict[str, Any] = json.loads(context.cursor) if context.cursor else {}
    events = []
    for key, count in waiting.items():
        name = key.to_user_string()
        age = now.timestamp() - materialized_at.get(name, 0)
        if count:
            materialized_at.pop(name, None)
        elif not 0 <= age < REPEAT_SECONDS:
            events.append(dg.AssetMaterialization(key, metadata={"waiting": 0}))
            materialized_at[name] = now.timestamp()
    state = f"{waiting[AGING.key]} days wait to be aged, {waiting[EMBEDDINGS.key]} rows wait for a vector"
    return dg.SensorResult(skip_reason=state, asset_events=events, cursor=json.dumps(materialized_at))
