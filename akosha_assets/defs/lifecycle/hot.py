"""`lifecycle/hot`: the newest memories, one partition per event day. Ingestion writes it; materialising a day lays it
anew.

The job `embed` gives vectors to rows that came without, as soon as a model lies here.
"""

from contextlib import closing
from datetime import date
from pathlib import Path

import dagster as dg
from dagster_duckdb import DuckDBResource

from akosha_assets.defs.metadata import OWNERS, day_metadata, table_metadata
from akosha_assets.defs.partitions import EVENT_DAYS, is_event_day
from akosha_assets.defs.schedules import BACKGROUND, one_at_a_time
from akosha_assets.defs.shutdown import asked_to_stop, end_if_cancelled
from akosha_assets.lake import days, inventory
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings

KEY = dg.AssetKey(["lifecycle", "hot"])
ADDRESS = "lifecycle/hot"


@dg.asset(
    key=KEY,
    # Any arrival day may tell of any event day.
    deps=[dg.AssetDep(["ingestion", "arrivals"], partition_mapping=dg.AllPartitionMapping())],
    group_name="lifecycle",
    owners=OWNERS,
    kinds={"deltalake", "duckdb"},
    partitions_def=EVENT_DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    # Rows of the day may arrive while it is laid anew; then nothing was changed and it is tried again.
    retry_policy=dg.RetryPolicy(max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL),
    metadata=table_metadata(ADDRESS),
)
def hot(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], duckdb: DuckDBResource) -> None:
    """The newest memories, whole text and vector, one partition per day they tell of (UTC). Ingestion appends to it;
    materialising a day lays its rows anew in as few files as they need.
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
    description=(
        "Lays event days of the hot table anew in as few files as they need, each memory once in its newest form."
    ),
    tags={"dagster/max_retries": "0"},
)


@dg.op(out=dg.Out(dg.Nothing), tags={"kind": "deltalake"}, pool="embed")
def embed_waiting(context: dg.OpExecutionContext, lake: dg.ResourceParam[Lake], duckdb: DuckDBResource) -> None:
    """Gives every row without a vector one of the configured model, newest day first; one run at a time does it."""
    from akosha_assets.lake.embeddings import Embedder
    from akosha_assets.lake.ingestion.ledger import known_tables
    from akosha_assets.lake.ingestion.ledger.duty_lease import hold
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger
    from akosha_assets.lake.lifecycle.hot import days_without_vectors, embed_day

    ledger = Ledger.open(lake.settings)
    with (
        closing(ledger),
        hold(ledger, "embed") as lease,
        asked_to_stop() as is_asked,
        duckdb.get_connection() as connection,
    ):
        if lease is None:
            context.log.info("another run embeds; this one ends")
            return

        def stop() -> bool:
            return is_asked() or not lease.extend()

        known_tables.check(ledger, lake)
        embedder = Embedder.load(lake.settings)
        for day in sorted(days_without_vectors(lake, embedder.space), reverse=True):
            if stop():
                break
            done = embed_day(lake, day, embedder, run_id=context.run_id, stop=stop)
            if done.version is not None and is_event_day(day.isoformat()):
                size = day_metadata(
                    days.stored(lake.create(ADDRESS)).get(day), inventory.table_size(lake, ADDRESS, connection)
                )
                metadata = {"rows embedded": done.rows, "space": embedder.space, **size}
                context.log_event(dg.AssetMaterialization(KEY, metadata=metadata, partition=day.isoformat()))
    end_if_cancelled(context.instance, context.run_id)


@dg.job(name="embed", tags=BACKGROUND)
def embed_job() -> None:
    """Gives every hot row without a vector one of the configured model. Fails with what to do where no model can be
    loaded.
    """
    embed_waiting()


def request_embed(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:  # noqa: ARG001
    """A run while a model lies here and rows wait for a vector."""
    from akosha_assets.lake.embeddings import cache_dir
    from akosha_assets.lake.lifecycle.hot import days_without_vectors

    settings = LakeSettings()
    folder = settings.embedding_model_dir or cache_dir(settings)
    if not _holds_model(folder):
        return dg.SkipReason(f"no embedding model lies in {folder}; rows keep waiting for their vectors")
    waiting = days_without_vectors(Lake(settings), settings.embedding_model)
    if not waiting:
        return dg.SkipReason("every row has a vector")
    return dg.RunRequest(tags={"akosha/rows": str(sum(waiting.values()))})


embed_schedule = one_at_a_time(
    embed_job,
    name="embed_schedule",
    cron="*/5 * * * *",
    description="Starts `embed` every five minutes while a model lies here and rows wait for a vector.",
    request=request_embed,
)


def _holds_model(folder: Path) -> bool:
    return folder.is_dir() and any(folder.rglob("*.onnx"))
