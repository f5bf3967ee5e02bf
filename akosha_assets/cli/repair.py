"""`akosha repair`: a new log for a table that lost its own."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from akosha_assets.cli.ledgers import open_ledger
from akosha_assets.cli.output import Json, console, emit, escape_markup, key_values, lake_errors


def repair(
    table: Annotated[str, typer.Argument(help="Address of the table, for example lifecycle/hot.")],
    as_json: Json = False,
) -> None:
    """Give a table that lost its log a new one over the data files that are there. Nothing is deleted.

    Exit status 0: repaired; 1: no data file can be read; 2: nothing is wrong with the table, or ingestion is running; 3: a
    store did not answer.
    """
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.settings import LakeSettings
    from akosha_assets.lake.upkeep.repair import repair as repair_table

    settings = LakeSettings()
    with lake_errors(), open_ledger(settings, create=True) as ledger:
        repaired = repair_table(Lake(settings), ledger, table, now=datetime.now(UTC))
    if as_json:
        emit(asdict(repaired))
        return
    shown = asdict(repaired) | {"unreadable": len(repaired.unreadable), "old_log": repaired.old_log or "none"}
    console.print(key_values(f"Repaired {table}", ((name.replace("_", " "), value) for name, value in shown.items())))
    for key, reason in repaired.unreadable.items():
        console.print(f"  unreadable: {escape_markup(key)}: {escape_markup(reason)}", highlight=False, soft_wrap=True)
    console.print("Find out whether rows are missing: akosha verify", highlight=False)
