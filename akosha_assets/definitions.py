"""The code location `akosha`: all definitions under `defs/`.

Each run imports this module in a process of its own, so libraries that few bodies need are imported in those bodies.
The packages are loaded directly: `load_from_defs_folder` imports every installed component library, among them
dagster_aws, which doubles the start time of a run.
"""

import warnings

import dagster as dg

from akosha_assets import defs as stages
from akosha_assets.dagster_settings import read_settings
from akosha_assets.defs.policies import with_freshness
from akosha_assets.defs.resources import loggers, resources


@dg.definitions
def defs() -> dg.Definitions:
    """Assets, jobs, sensors, schedules and resources of the lake."""
    with warnings.catch_warnings():
        # Package loading is a preview and backfill policies are a beta in Dagster 1.13. The version is pinned, and a
        # snapshot test shows what another version changes.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        warnings.simplefilter("ignore", dg.BetaWarning)
        # The in-process executor halves the start time of a run; no run here has steps that could run in parallel.
        settings = read_settings()
        loaded = dg.load_definitions_from_package_module(
            stages, resources=resources(), loggers=loggers(settings), executor=dg.in_process_executor
        )
        return with_freshness(loaded, settings)
