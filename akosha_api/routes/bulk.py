"""`POST /api/v1/export` streams a filtered set; `POST /api/v1/sql` answers one SELECT in a confined process."""

import math
from decimal import Decimal
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from akosha_api.app_state import AppState
from akosha_api.bulk_models import ExportRequest, SqlRequest, SqlResponse
from akosha_api.fast_route import FastRoute
from akosha_assets.lake.errors import TierUnavailable
from akosha_assets.lake.serving.search import export
from akosha_assets.lake.serving.search.results import describe_tier
from akosha_assets.lake.serving.snapshot import Snapshot
from akosha_assets.lake.serving.sql import runner

router = APIRouter(prefix="/api/v1", tags=["bulk"], route_class=FastRoute)


@router.post("/export", response_class=StreamingResponse)
async def export_memories(body: ExportRequest, request: Request) -> StreamingResponse:
    """Every memory that passes the filters, once, from one state of the tables; as JSON lines or one Parquet file.

    Refused with 503 while a tier is not whole, unless `partial` is true. `X-Akosha-Incomplete` names tiers that are not
    in it as their tables are now, and how: `hot=unavailable`.
    """
    serving: AppState = request.app.state.serving
    snapshot, filters = await serving.snapshot(body.as_of), body.filters()
    missing = {name: tier.doubt or "" for name, tier in snapshot.tiers.items() if not tier.is_whole}
    if missing and not body.partial:
        raise TierUnavailable('an export would lack rows, which "partial": true accepts', missing)
    headers = _incomplete(snapshot)
    if body.format == "parquet":
        return StreamingResponse(
            export.parquet(snapshot, filters), headers=headers, media_type="application/vnd.apache.parquet"
        )
    return StreamingResponse(export.json_lines(snapshot, filters), headers=headers, media_type="application/x-ndjson")


@router.post("/sql", response_model=SqlResponse)
async def run_sql(body: SqlRequest, request: Request) -> Response:
    """One SELECT of DuckDB's SQL over the views `hot`, `warm`, `cold` and `memories` (all of them, each memory once)."""
    serving: AppState = request.app.state.serving
    settings = serving.settings
    limits = runner.SqlLimits(
        settings.sql_seconds, settings.sql_memory_bytes, min(body.max_rows, settings.sql_max_rows)
    )
    written = {name for name, tier in serving.replica.snapshot.tiers.items() if tier.version is not None}
    answer = await serving.sql_pool.run(lambda: runner.run(serving.lake, body.query, limits, written=written))
    said = {
        "columns": [
            {"name": name, "type": kind} for name, kind in zip(answer.table.schema.names, answer.types, strict=True)
        ],
        "rows": [{name: _json_value(value) for name, value in row.items()} for row in answer.table.to_pylist()],
        "is_truncated": answer.is_truncated,
        "versions": answer.versions,
    }
    return Response(orjson.dumps(said), media_type="application/json")


def _incomplete(snapshot: Snapshot) -> dict[str, str]:
    states = {name: describe_tier(tier)["state"] for name, tier in snapshot.tiers.items()}
    told = ", ".join(f"{name}={state}" for name, state in states.items() if state not in ("answered", "empty"))
    return {"X-Akosha-Incomplete": told} if told else {}


def _json_value(value: Any) -> Any:
    """A value of SQL as JSON has it: a DECIMAL with all its digits, and as text the numbers that JSON has not."""
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f"))
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _json_value(each) for name, each in value.items()}
    # Of a map, pairs.
    return [_json_value(each) for each in value] if isinstance(value, list | tuple) else value
