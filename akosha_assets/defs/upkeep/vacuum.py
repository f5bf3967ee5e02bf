"""`upkeep/vacuum`: every night, files that no reader needs are removed; on Sundays also files that no log names."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict

import dagster as dg

from akosha_assets.defs.aging import POOL
from akosha_assets.defs.metadata import OWNERS
from akosha_assets.defs.schedules import BACKGROUND, exclusive, one_at_a_time
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.ledger.duty_lease import Duty


class VacuumConfig(dg.Config):
    """`is_full`: also remove files that no log names. `dry_run`: count the files and remove none."""

    is_full: bool = False
    dry_run: bool = False


@dg.asset(
    key=["upkeep", "vacuum"],
    deps=[dg.AssetKey(["upkeep", "compaction"])],
    group_name="upkeep",
    owners=OWNERS,
    kinds={"deltalake"},
    output_required=False,
    pool=POOL,
)
def vacuum(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], config: VacuumConfig
) -> Iterator[dg.MaterializeResult[None]]:
    """Removes files that moves, merges and compaction replaced at least a week ago."""
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger
    from akosha_assets.lake.schemas import TABLES
    from akosha_assets.lake.upkeep.vacuum import vacuum as vacuum_table

    with exclusive(lake, Duty.VACUUM, context.log) as is_ours, closing(Ledger.open(lake.settings)) as ledger:
        if not is_ours:
            return
        results = [
            result
            for address in TABLES
            if (result := vacuum_table(lake, ledger, address, is_full=config.is_full, dry_run=config.dry_run))
        ]
    metadata: dict[str, dg.MetadataValue] = {
        result.address: dg.MetadataValue.json(asdict(result)) for result in results
    }
    files = sum(result.files for result in results)
    yield dg.MaterializeResult(metadata=metadata | {"files": dg.MetadataValue.int(files)})


vacuum_job = dg.define_asset_job(
    "vacuum_tables",
    selection=[vacuum],
    description="Removes files that no version of a table needs any more.",
    executor_def=dg.in_process_executor,
    tags=BACKGROUND,
)


def request_vacuum(context: dg.ScheduleEvaluationContext, _lake: Lake) -> dg.RunRequest:
    """A vacuum; a full one on Sundays."""
    is_full = context.scheduled_execution_time.isoweekday() == 7
    return dg.RunRequest(run_config=dg.RunConfig(ops={"upkeep__vacuum": VacuumConfig(is_full=is_full)}))


vacuum_tables_nightly = one_at_a_time(
    vacuum_job,
    name="vacuum_tables_nightly",
    cron="41 2 * * *",
    description="Removes files that no version of a table needs any more; on Sundays also files that no log names.",
    request=request_vacuum,
)
