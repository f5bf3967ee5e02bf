"""`ingestion/arrivals`: waiting uploads become rows. The job `ingest` ingests every waiting upload; materializing an
arrival day ingests the uploads of that day again, which adds only rows that are missing.
"""

from datetime import UTC, date, datetime

import dagster as dg
from dagster_duckdb import DuckDBResource

from akosha_assets.defs.ingestion.uploads import INGEST_JOB
from akosha_assets.defs.metadata import OWNERS, counted
from akosha_assets.defs.partitions import ARRIVAL_DAYS
from akosha_assets.defs.shutdown import end_if_cancelled, stop_requested
from akosha_assets.lake.catalog import Lake

# No retries: the ledger knows what a failed run left waiting, and the sensor requests another run. Runs of this job
# come before all others.
LIVE = {"dagster/max_retries": "0", "dagster/priority": "10"}
# Concurrent runs never ingest the same system. The pool's limit is `AKOSHA_INGEST_RUNS`.
POOL = "ingest"


@dg.op(out=dg.Out(dg.Nothing), tags={"kind": "deltalake"}, pool=POOL)
def ingest_waiting(context: dg.OpExecutionContext, lake: dg.ResourceParam[Lake], duckdb: DuckDBResource) -> None:
    """Ingests waiting uploads, batch after batch, until none waits or the run is asked to stop."""
    from akosha_assets.defs.ingestion.record import Record
    from akosha_assets.lake.ingestion.arrivals import ingest
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger

    ledger = Ledger.open(lake.settings)
    with stop_requested() as stop, duckdb.get_connection() as connection:
        record = Record(lake, ledger, connection, context.log_event, arrivals=True)
        try:
            ingest(lake, ledger, run_id=context.run_id, stop=stop, on_batch=record.add)
        finally:
            record.write()
            ledger.close()
        context.log.info("ingested: %s", dict(record.total) or "nothing")
        if stop():
            context.log.info("asked to stop; uploads that were not ingested are released to the ledger")
    end_if_cancelled(context.instance, context.run_id)


@dg.job(name=INGEST_JOB, tags=LIVE)
def ingest_job() -> None:
    """Ingests every waiting upload. The upload sensor starts it; its run lists all tables and days that it changed."""
    ingest_waiting()


@dg.asset(
    key=["ingestion", "arrivals"],
    deps=[dg.AssetKey(["ingestion", "ledger"])],
    group_name="ingestion",
    owners=OWNERS,
    kinds={"deltalake", "duckdb"},
    partitions_def=ARRIVAL_DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def arrivals(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], duckdb: DuckDBResource) -> None:
    """Ingested uploads by the day they arrived (UTC); only rows that changed are stored. Materializing a day replays
    its uploads.
    """
    from akosha_assets.defs.ingestion.record import Record, arrival_metadata
    from akosha_assets.lake.ingestion.arrivals import ingest
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger
    from akosha_assets.lake.ingestion.ledger.replay import requeue_day

    ledger = Ledger.open(lake.settings)
    with stop_requested() as stop, duckdb.get_connection() as connection:
        try:
            for key in context.partition_keys:
                day = date.fromisoformat(key)
                record = Record(lake, ledger, connection, context.log_event, arrivals=False)
                again = requeue_day(ledger, day, now=datetime.now(UTC))
                ingest(lake, ledger, run_id=context.run_id, stop=stop, on_batch=record.add, arrival_day=day)
                record.write()
                replayed = {
                    "uploads ingested again": again.waiting,
                    "uploads no longer in the inbox": again.removed,
                    **record.total,
                }
                context.add_asset_metadata(
                    {"replay": counted(replayed), **arrival_metadata(ledger, day)}, partition_key=key
                )
        finally:
            ledger.close()
    end_if_cancelled(context.instance, context.run_id)


replay_arrivals = dg.define_asset_job(
    "replay_arrivals",
    selection=[arrivals],
    description="Ingests the uploads of an arrival day again, which adds only rows that are missing.",
    tags={"dagster/max_retries": "0"},
)
