"""Resources: the lake, and an in-memory DuckDB."""

from typing import Any

import dagster as dg
from dagster_duckdb import DuckDBResource

from akosha_assets.lake import telemetry
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings


class LakeResource(dg.ConfigurableResource):
    """The lake of the settings in the environment (`AKOSHA_…`)."""

    def create_resource(self, context: dg.InitResourceContext) -> Lake:  # noqa: ARG002
        settings = LakeSettings()
        if settings.log_format == "json":
            # For log lines of the lake; Dagster's own lines follow `loggers`.
            telemetry.configure_logging(settings.log_format)
        return Lake(settings)


def resources() -> dict[str, Any]:
    """Resources by name."""
    # In memory: processes cannot share a DuckDB file, and results are written to Delta.
    return {"lake": LakeResource(), "duckdb": DuckDBResource(database=":memory:")}


def loggers(settings: LakeSettings) -> dict[str, dg.LoggerDefinition]:
    """How runs print log lines: as text, or as JSON if the settings say so."""
    return {"console": dg.json_console_logger} if settings.log_format == "json" else {}
