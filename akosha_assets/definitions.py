"""The code location `akosha`: everything under `defs/`, and nothing of its own.

Every run imports this module in a process of its own, so what only some need is imported inside bodies. Packages are
walked directly: `load_from_defs_folder` imports every installed component library, dagster_aws among them, which
doubles what a run costs before its first line.
"""

import warnings

import dagster as dg

from akosha_assets import defs as stages
from akosha_assets.defs.resources import resources


@dg.definitions
def defs() -> dg.Definitions:
    """Assets, jobs, sensors, schedules and resources of the lake."""
    with warnings.catch_warnings():
        # A preview of Dagster 1.13; the version is pinned and the snapshot test sees whatever it would lose.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.load_definitions_from_package_module(stages, resources=resources())
