"""Freshness policies: when an asset is late. Their windows come from the settings, so they are added while the
definitions are assembled.
"""

from collections.abc import Callable
from datetime import timedelta

import dagster as dg

from akosha_assets.lake.settings import LakeSettings


def _backlog(settings: LakeSettings) -> dg.FreshnessPolicy:
    return dg.FreshnessPolicy.time_window(
        fail_window=timedelta(seconds=settings.backlog_fail_seconds),
        warn_window=timedelta(seconds=settings.backlog_warn_seconds),
    )


def _late_after(warn_hours: float, fail_hours: float) -> Callable[[LakeSettings], dg.FreshnessPolicy]:
    return lambda _: dg.FreshnessPolicy.time_window(
        fail_window=timedelta(hours=fail_hours), warn_window=timedelta(hours=warn_hours)
    )


# By asset key. Each of these assets is materialized only while nothing is left to do.
FRESHNESS: dict[tuple[str, ...], Callable[[LakeSettings], dg.FreshnessPolicy]] = {
    ("ingestion", "backlog"): _backlog,
    ("lifecycle", "aging"): _late_after(6, 24),
    ("lifecycle", "embeddings"): _late_after(1, 24),
    ("upkeep", "restore_drill"): _late_after(8 * 24, 15 * 24),
}


def with_freshness(definitions: dg.Definitions, settings: LakeSettings) -> dg.Definitions:
    """`definitions` with the freshness policies of `settings`."""

    def late(spec: dg.AssetSpec) -> dg.AssetSpec:
        policy = FRESHNESS.get(tuple(spec.key.path))
        return spec.replace_attributes(freshness_policy=policy(settings)) if policy else spec

    return definitions.map_asset_specs(func=late)
