"""`POST /api/v1/export` streams memories; `POST /api/v1/sql` answers one SELECT in a confined process."""

import math
from decimal import Decimal
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from akosha_api.bulk_models import ExportRequest, SqlRequest, SqlResponse
from akosha_api.dependencies import state_of
from akosha_api.fast_route import FastRoute
from akosha_assets.lake.errors import TierUnavailable
from akosha_assets.lake.serving.search import export
from akosha_assets.lake.serving.search.results import tier_status
from akosha_assets.lake.serving.snapshot import Snapshot
from akosha_assets.lake.serving.sql import runner

router = APIRouter(prefix="/api/v1", tags=["bulk"], route_class=FastRoute)


@router.post("/export", response_class=StreamingResponse)
async def export_memories(body: ExportRequest, request: Request) -> StreamingResponse:
    """Every memory that passes the filters, once, from one version of the tables; as JSON lines or one Parquet file.

    Refused with 503 while a tier is incomplete, unless `partial` is true. `X-Akosha-Incomplete` then names each
    incomplete tier with its state: `hot=unavailable`.
    """
    service = state_of(request)
    snapshot, filters = await service.snapshot(body.as_of), body.filters()
    incomplete = {name: tier.doubt or "" for name, tier in snapshot.tiers.items() if not tier.is_whole}
    if incomplete and not body.partial:
        raise TierUnavailable('the export could miss rows, which "partial": true accepts', incomplete)
    headers = _incomplete_header(snapshot)
    if body.format == "parquet":
        return StreamingResponse(
            export.parquet(snapshot, filters), headers=headers, media_type="application/vnd.apache.parquet"
        )
    return StreamingResponse(export.json_lines(snapshot, filters), headers=headers, media_type="application/x-ndjson")


@router.post("/sql", response_model=SqlResponse)
async def run_sql(body: SqlRequest, request: Request) -> Response:
    """One SELECT in DuckDB's SQL over the views `hot`, `warm`, `cold` and `memories` (every memory once)."""
    service = state_of(request)
    settings = service.settings
    limits = runner.SqlLimits(
        seconds=settings.sql_seconds,
        memory_bytes=settings.sql_memory_bytes,
        max_rows=min(body.max_rows, settings.sql_max_rows),
    )
    written = {name for name, tier in service.replica.snapshot.tiers.items() if tier.version is not None}
    answer = await service.sql_pool.run(lambda: runner.run(service.lake, body.query, limits, written=written))
    content = {
        "columns": [
            {"name": name, "type": type} for name, type in zip(answer.table.schema.names, answer.types, strict=True)
        ],
        "rows": [{name: _json_value(value) for name, value in row.items()} for row in answer.table.to_pylist()],
        "is_truncated": answer.is_truncated,
        "versions": answer.versions,
    }
    return Response(orjson.dumps(content), media_type="application/json")


def _incomplete_header(snapshot: Snapshot) -> dict[str, str]:
    states = {name: tier_status(tier) for name, tier in snapshot.tiers.items()}
    incomplete = ", ".join(f"{name}={state}" for name, state in states.items() if not state.is_whole)
    return {"X-Akosha-Incomplete": incomplete} if incomplete else {}


def _json_value(value: Any) -> Any:
    """An SQL value for JSON: DECIMAL with all its digits, NaN and infinity as text, a map as a list of pairs."""
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f"))
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _json_value(each) for name, each in value.items()}
    return [_json_value(each) for each in value] if isinstance(value, list | tuple) else value
