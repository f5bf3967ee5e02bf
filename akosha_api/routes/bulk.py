"""`POST /api/v1/export` streams a filtered set; `POST /api/v1/sql` answers one SELECT in a confined process."""

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from akosha_api.bulk_models import ExportRequest, SqlRequest, SqlResponse
from akosha_api.dependencies import ServingDep
from akosha_assets.lake.serving import export, sql

router = APIRouter(prefix="/api/v1", tags=["bulk"])


@router.post("/export", response_class=StreamingResponse)
async def export_memories(body: ExportRequest, serving: ServingDep) -> StreamingResponse:
    """Every memory that passes the filters, once, from one state of the tables; as JSON lines or one Parquet file."""
    snapshot, filters = await serving.snapshot(body.as_of), body.filters()
    if body.format == "parquet":
        return StreamingResponse(export.parquet(snapshot, filters), media_type="application/vnd.apache.parquet")
    return StreamingResponse(export.json_lines(snapshot, filters), media_type="application/x-ndjson")


@router.post("/sql")
async def run_sql(body: SqlRequest, serving: ServingDep) -> SqlResponse:
    """One SELECT of DuckDB's SQL over the views `hot`, `warm`, `cold` and `memories` (all of them, each memory once)."""
    settings = serving.settings
    limits = sql.SqlLimits(settings.sql_seconds, settings.sql_memory_bytes, min(body.max_rows, settings.sql_max_rows))
    answer = await serving.sql_pool.run(lambda: sql.run(serving.lake, body.query, limits))
    return SqlResponse(
        columns=[{"name": field.name, "type": str(field.type)} for field in answer.table.schema],
        rows=answer.table.to_pylist(),
        is_truncated=answer.is_truncated,
        versions=answer.versions,
    )
