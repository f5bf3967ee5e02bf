"""The code location `akosha`: everything under `defs/`, and nothing of its own.

Every run imports this module in a process of its own, so what only some need is imported inside bodies. Packages are
walked directly: `load_from_defs_folder` imports every installed component library, dagster_aws among them, which
doubles what a run costs before its first line.
"""

import warnings

import dagster as dg

from akosha_assets import defs as stages
from akosha_assets.defs.policies import with_freshness
from akosha_assets.defs.resources import loggers, resources
from akosha_assets.lake.settings import LakeSettings


@dg.definitions
def defs() -> dg.Definitions:
    """Assets, jobs, sensors, schedules and resources of the lake."""
    with warnings.catch_warnings():
        # Package loading is a preview and backfill policies are a beta of Dagster 1.13. The version is pinned, and a
        # test of the definitions shows whatever another would lose.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        warnings.simplefilter("ignore", dg.BetaWarning)
        # A process for every step would double what a run costs to start, and no run here has steps to run side by
        # side.
        settings = LakeSettings()
        loaded = dg.load_definitions_from_package_module(
            stages, resources=resources(), loggers=loggers(settings), executor=dg.in_process_executor
        )
        return with_freshness(loaded, settings)
