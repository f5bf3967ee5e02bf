"""`upkeep/vacuum`: files that no reader needs are removed daily; on Sundays also those the log never knew of."""

from contextlib import closing
from dataclasses import asdict

import dagster as dg

from akosha_assets.defs.aging import POOL
from akosha_assets.defs.metadata import OWNERS
from akosha_assets.defs.schedules import BACKGROUND, one_at_a_time
from akosha_assets.lake.catalog import Lake


class VacuumConfig(dg.Config):
    """What a run may remove."""

    is_full: bool = False
    dry_run: bool = False


@dg.asset(
    key=["upkeep", "vacuum"],
    deps=[dg.AssetKey(["upkeep", "compaction"])],
    group_name="upkeep",
    owners=OWNERS,
    kinds={"deltalake"},
    pool=POOL,
)
def vacuum(lake: dg.ResourceParam[Lake], config: VacuumConfig) -> dg.MaterializeResult:
    """Files that were written off a week ago are gone: the end of every move, merge and compaction."""
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger
    from akosha_assets.lake.schemas import TABLES
    from akosha_assets.lake.upkeep.vacuum import vacuum as remove

    with closing(Ledger.open(lake.settings)) as ledger:
        done = [
            found
            for address in TABLES
            if (found := remove(lake, ledger, address, is_full=config.is_full, dry_run=config.dry_run))
        ]
    metadata: dict[str, dg.MetadataValue] = {each.address: dg.MetadataValue.json(asdict(each)) for each in done}
    return dg.MaterializeResult(metadata=metadata | {"files": dg.MetadataValue.int(sum(each.files for each in done))})


vacuum_job = dg.define_asset_job(
    "vacuum_tables", selection=[vacuum], executor_def=dg.in_process_executor, tags=BACKGROUND
)


def request_vacuum(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """A lite vacuum, on Sundays a full one."""
    is_full = context.scheduled_execution_time.isoweekday() == 7
    return dg.RunRequest(run_config=dg.RunConfig(ops={"upkeep__vacuum": VacuumConfig(is_full=is_full)}))


vacuum_tables_nightly = one_at_a_time(
    vacuum_job,
    name="vacuum_tables_nightly",
    cron="41 2 * * *",
    description="Removes files that no version of a table needs any more; on Sundays also files that no log names.",
    request=request_vacuum,
)
