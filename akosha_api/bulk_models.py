"""Request and response bodies of export and SQL."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt

from akosha_api.filter_fields import FilterFields


class ExportRequest(FilterFields):
    """The memories to export, and the format."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"system_id": "laptop-ada-00000", "since": "2026-11-01T00:00:00Z"},
                {"project": ["scheduler", "pricing"], "format": "parquet"},
            ]
        },
    )

    format: Annotated[Literal["jsonl", "parquet"], Field(description="JSON lines, or one Parquet file.")] = "jsonl"
    partial: Annotated[
        StrictBool, Field(description="Export although a tier is incomplete, which is refused otherwise.")
    ] = False


class SqlRequest(BaseModel):
    """One SELECT."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"query": "SELECT project, count(*) AS memories FROM memories GROUP BY project"}]
        },
    )

    query: Annotated[str, Field(min_length=1, max_length=20_000)]
    max_rows: Annotated[StrictInt, Field(ge=1, le=100_000)] = 1000


class SqlResponse(BaseModel):
    """The rows, and the table version of each tier."""

    columns: Annotated[list[dict[str, str]], Field(description="`name` and SQL `type` of each.")]
    rows: list[dict[str, Any]]
    is_truncated: Annotated[bool, Field(description="The query has more rows than `max_rows`.")]
    versions: dict[str, int | None]
