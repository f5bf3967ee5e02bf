"""`POST /api/v1/export` streams a filtered set; `POST /api/v1/sql` answers one SELECT in a confined process."""

import base64
from datetime import timedelta
from decimal import Decimal
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from akosha_api.bulk_models import ExportRequest, SqlRequest, SqlResponse
from akosha_api.direct import DirectRoute
from akosha_api.serving import Serving
from akosha_assets.lake.errors import TierUnavailable
from akosha_assets.lake.serving import export, sql
from akosha_assets.lake.serving.results import described
from akosha_assets.lake.serving.snapshot import Snapshot

router = APIRouter(prefix="/api/v1", tags=["bulk"], route_class=DirectRoute)


@router.post("/export", response_class=StreamingResponse)
async def export_memories(body: ExportRequest, request: Request) -> StreamingResponse:
    """Every memory that passes the filters, once, from one state of the tables; as JSON lines or one Parquet file.

    Refused with 503 while a tier is not whole, unless `partial` is true. `X-Akosha-Incomplete` names tiers that are not in it as their
    tables are now, and how: `hot=unavailable`.
    """
    serving: Serving = request.app.state.serving
    snapshot, filters = await serving.snapshot(body.as_of), body.filters()
    missing = {name: tier.doubt or "" for name, tier in snapshot.tiers.items() if not tier.is_whole}
    if missing and not body.partial:
        raise TierUnavailable('an export would lack rows, which "partial": true accepts', missing)
    headers = _incomplete(snapshot)
    if body.format == "parquet":
        return StreamingResponse(export.parquet(snapshot, filters), headers=headers, media_type="application/vnd.apache.parquet")
    return StreamingResponse(export.json_lines(snapshot, filters), headers=headers, media_type="application/x-ndjson")


@router.post("/sql", response_model=SqlResponse)
async def run_sql(body: SqlRequest, request: Request) -> Response:
    """One SELECT of DuckDB's SQL over the views `hot`, `warm`, `cold` and `memories` (all of them, each memory once)."""
    serving: Serving = request.app.state.serving
    settings = serving.settings
    limits = sql.SqlLimits(settings.sql_seconds, settings.sql_memory_bytes, min(body.max_rows, settings.sql_max_rows))
    written = {name for name, tier in serving.replica.snapshot.tiers.items() if tier.version is not None}
    answer = await serving.sql_pool.run(lambda: sql.run(serving.lake, body.query, limits, written=written))
    said = {
        "columns": [{"name": field.name, "type": str(field.type)} for field in answer.table.schema],
        "rows": answer.table.to_pylist(),
        "is_truncated": answer.is_truncated,
        "versions": answer.versions,
    }
    # A value may be of any type that SQL has.
    encoded = orjson.dumps(said, default=_plain, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)
    return Response(encoded, media_type="application/json")


def _incomplete(snapshot: Snapshot) -> dict[str, str]:
    states = {name: described(tier)["state"] for name, tier in snapshot.tiers.items()}
    told = ", ".join(f"{name}={state}" for name, state in states.items() if state not in ("answered", "empty"))
    return {"X-Akosha-Incomplete": told} if told else {}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    # A sum of integers is a decimal in DuckDB.
    if isinstance(value, Decimal) and value == value.to_integral_value() and abs(value) < 1 << 63:
        return int(value)
    return value.total_seconds() if isinstance(value, timedelta) else str(value)
