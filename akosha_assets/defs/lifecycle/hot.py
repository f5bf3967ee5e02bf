"""`lifecycle/hot`: the newest memories, one partition per event day. Ingestion writes it; materializing a day rewrites
it.

The job `embed` adds vectors to rows that have none, once an embedding model is installed.
"""

from contextlib import closing
from datetime import date
from pathlib import Path

import dagster as dg
from dagster_duckdb import DuckDBResource

from akosha_assets.defs.metadata import OWNERS, day_metadata, table_metadata
from akosha_assets.defs.partitions import EVENT_DAYS, is_event_day
from akosha_assets.defs.schedules import BACKGROUND, one_at_a_time
from akosha_assets.defs.shutdown import end_if_cancelled, stop_requested
from akosha_assets.lake import days, inventory
from akosha_assets.lake.catalog import Lake

KEY = dg.AssetKey(["lifecycle", "hot"])
ADDRESS = "lifecycle/hot"
# Rows with a vector whose texts one run of `embed` cuts into passages.
UNCUT_ROWS = 16_384


@dg.asset(
    key=KEY,
    # Uploads of any arrival day may have memories of any event day.
    deps=[dg.AssetDep(["ingestion", "arrivals"], partition_mapping=dg.AllPartitionMapping())],
    group_name="lifecycle",
    owners=OWNERS,
    kinds={"deltalake", "duckdb"},
    partitions_def=EVENT_DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    # Rows of the day may arrive during the rewrite; then nothing was changed, and it is tried again.
    retry_policy=dg.RetryPolicy(max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL),
    metadata=table_metadata(ADDRESS),
)
def hot(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], duckdb: DuckDBResource) -> None:
    """The newest memories with their full text and vector, one partition per event day (UTC). Ingestion appends rows;
    materializing a day rewrites it into as few files as possible.
    """
    from akosha_assets.lake.ingestion.ledger.known_tables import guarded
    from akosha_assets.lake.lifecycle.hot import rebuild_day

    with guarded(lake), duckdb.get_connection() as connection:
        for key in context.partition_keys:
            stored = rebuild_day(lake, date.fromisoformat(key), run_id=context.run_id, connection=connection)
            table = inventory.table_size(lake, ADDRESS, connection)
            context.add_asset_metadata(day_metadata(stored, table), partition_key=key)


rebuild_hot_day = dg.define_asset_job(
    "rebuild_hot_day",
    selection=[hot],
    description="Rewrites event days of the hot table into as few files as possible, each memory once, newest form.",
    tags={"dagster/max_retries": "0"},
)


@dg.op(out=dg.Out(dg.Nothing), tags={"kind": "deltalake"}, pool="embed")
def embed_waiting(context: dg.OpExecutionContext, lake: dg.ResourceParam[Lake], duckdb: DuckDBResource) -> None:
    """Every row without a vector of the configured model has one, newest day first; then up to `UNCUT_ROWS` rows that
    an earlier version or a client embedded have vectors of their passages. One run at a time does this.
    """
    from akosha_assets.lake.embeddings import Embedder
    from akosha_assets.lake.ingestion.ledger import known_tables
    from akosha_assets.lake.ingestion.ledger.duty_lease import Duty, hold
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger
    from akosha_assets.lake.lifecycle.hot import (
        Embedded,
        days_without_passages,
        days_without_vectors,
        embed_day,
        embed_passages,
    )

    ledger = Ledger.open(lake.settings)
    with (
        closing(ledger),
        hold(ledger, Duty.EMBED) as lease,
        stop_requested() as is_stop_requested,
        duckdb.get_connection() as connection,
    ):
        if lease is None:
            context.log.info("another process holds the lease on embed; this run does nothing")
            return

        def stop() -> bool:
            return is_stop_requested() or not lease.extend()

        known_tables.check(ledger, lake)
        embedder = Embedder.load(lake.settings)

        def record(day: date, done: Embedded) -> None:
            if done.version is not None and is_event_day(day.isoformat()):
                size = day_metadata(
                    days.stored(lake.create(ADDRESS)).get(day), inventory.table_size(lake, ADDRESS, connection)
                )
                metadata = {"rows embedded": done.rows, "space": embedder.space, **size}
                context.log_event(dg.AssetMaterialization(KEY, metadata=metadata, partition=day.isoformat()))

        for day in sorted(days_without_vectors(lake, embedder.space), reverse=True):
            if stop():
                break
            record(day, embed_day(lake, day, embedder, run_id=context.run_id, stop=stop))
        rows_left = UNCUT_ROWS
        for day in sorted(days_without_passages(lake, embedder.space), reverse=True):
            if stop() or not rows_left:
                break
            done = embed_passages(lake, day, embedder, run_id=context.run_id, stop=stop, rows_max=rows_left)
            rows_left -= done.rows
            record(day, done)
    end_if_cancelled(context.instance, context.run_id)


@dg.job(name="embed", tags=BACKGROUND)
def embed_job() -> None:
    """Adds a vector of the configured model to every hot row that has none, and vectors of the passages of long texts.
    Without a model it fails and says what to do.
    """
    embed_waiting()


def request_embed(_context: dg.ScheduleEvaluationContext, lake: Lake) -> dg.RunRequest | dg.SkipReason:
    """A run, if an embedding model is installed and rows wait for a vector or for their passages."""
    from akosha_assets.lake.embeddings import cache_dir
    from akosha_assets.lake.lifecycle.hot import days_without_passages, days_without_vectors

    folder = lake.settings.embedding_model_dir or cache_dir(lake.settings)
    if not _has_model(folder):
        return dg.SkipReason(f"there is no embedding model in {folder}; rows wait for their vectors")
    space = lake.settings.embedding_model
    waiting = days_without_vectors(lake, space) or days_without_passages(lake, space)
    if not waiting:
        return dg.SkipReason("every row has its vectors")
    return dg.RunRequest(tags={"akosha/rows": str(sum(waiting.values()))})


embed_schedule = one_at_a_time(
    embed_job,
    name="embed_schedule",
    cron="*/5 * * * *",
    description="Starts `embed` every five minutes if a model is installed and rows wait for a vector.",
    request=request_embed,
)


def _has_model(folder: Path) -> bool:
    return folder.is_dir() and any(folder.rglob("*.onnx"))
