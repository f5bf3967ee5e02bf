"""What assets ask for: the lake, and the DuckDB they compute with."""

from typing import Any

import dagster as dg
from dagster_duckdb import DuckDBResource

from akosha_assets.lake import telemetry
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings


class LakeResource(dg.ConfigurableResource):
    """The lake that the environment describes (`AKOSHA_…`)."""

    def create_resource(self, context: dg.InitResourceContext) -> Lake:  # noqa: ARG002
        settings = LakeSettings()
        if settings.log_format == "json":
            # What the lake logs; Dagster's own lines follow `loggers`.
            telemetry.configure_logging(settings.log_format)
        return Lake(settings)


def resources() -> dict[str, Any]:
    """By the name that assets and jobs ask for."""
    # In memory: no process shares a DuckDB file with another, and what is computed goes to Delta.
    return {"lake": LakeResource(), "duckdb": DuckDBResource(database=":memory:")}


def loggers(settings: LakeSettings) -> dict[str, dg.LoggerDefinition]:
    """What runs print: lines of text, or of JSON where the settings ask for it."""
    return {"console": dg.json_console_logger} if settings.log_format == "json" else {}
