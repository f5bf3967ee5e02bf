"""`lifecycle/aging` and `lifecycle/embeddings`: duties that are materialised only while they are done, so that their
age is an alarm.
"""

import json
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from akosha_assets.defs.metadata import OWNERS
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings

AGING = dg.AssetSpec(
    ["lifecycle", "aging"],
    deps=[dg.AssetKey(["lifecycle", tier]) for tier in ("hot", "warm", "cold")],
    description="No event day lies in a hotter tier than its age asks for. Recorded only while that is so.",
    group_name="lifecycle",
    owners=OWNERS,
    kinds={"deltalake"},
)
EMBEDDINGS = dg.AssetSpec(
    ["lifecycle", "embeddings"],
    deps=[dg.AssetKey(["lifecycle", "hot"])],
    description="No hot row waits for its vector. Recorded only while that is so.",
    group_name="lifecycle",
    owners=OWNERS,
    kinds={"deltalake"},
)
SAY_AGAIN_SECONDS = 600


@dg.sensor(minimum_interval_seconds=300, default_status=dg.DefaultSensorStatus.RUNNING)
def duties_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Records, without a run, that nothing waits to be aged and nothing waits for a vector, while each is so."""
    from akosha_assets.lake.lifecycle.aging import due
    from akosha_assets.lake.lifecycle.hot import days_without_vectors
    from akosha_assets.lake.lifecycle.policy import TierPolicy

    settings, now = LakeSettings(), datetime.now(UTC)
    lake = Lake(settings)
    waiting = {
        AGING.key: len(due(lake, TierPolicy.of(settings), now.date())),
        EMBEDDINGS.key: sum(days_without_vectors(lake, settings.embedding_model).values()),
    }
    said: dict[str, Any] = json.loads(context.cursor) if context.cursor else {}
    events = []
    for key, count in waiting.items():
        name = key.to_user_string()
        if count:
            said.pop(name, None)
        elif now.timestamp() - said.get(name, 0) >= SAY_AGAIN_SECONDS:
            events.append(dg.AssetMaterialization(key, metadata={"waiting": 0}))
            said[name] = now.timestamp()
    state = f"{waiting[AGING.key]} days wait to be aged, {waiting[EMBEDDINGS.key]} rows for a vector"
    return dg.SensorResult(skip_reason=state, asset_events=events, cursor=json.dumps(said))
