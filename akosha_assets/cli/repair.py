"""`akosha repair` and `akosha verify`: a new log for a table that lost its own, and what is missing from the tables."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from akosha_assets.cli.ledgers import open_ledger
from akosha_assets.cli.output import Exit, Json, console, emit, escape_markup, grid, key_values, lake_errors


def repair(
    table: Annotated[str, typer.Argument(help="Address of the table, for example lifecycle/hot.")],
    as_json: Json = False,
) -> None:
    """Create a new log over the existing data files for a table that lost its log. Nothing is deleted.

    Exit status 0: repaired; 1: no data file can be read; 2: the table needs no repair, or ingestion is running; 3: a
    store did not answer.
    """
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.settings import LakeSettings
    from akosha_assets.lake.upkeep.repair import repair as repair_table

    settings = LakeSettings()
    with lake_errors(), open_ledger(settings, create=False) as ledger:
        repaired = repair_table(Lake(settings), ledger, table, now=datetime.now(UTC))
    if as_json:
        emit(asdict(repaired))
        return
    shown = asdict(repaired) | {"unreadable": len(repaired.unreadable), "old_log": repaired.old_log or "none"}
    console.print(key_values(f"Repaired {table}", ((name.replace("_", " "), value) for name, value in shown.items())))
    for key, reason in repaired.unreadable.items():
        console.print(f"  unreadable: {escape_markup(key)}: {escape_markup(reason)}", highlight=False, soft_wrap=True)
    console.print("`akosha verify` shows whether rows are missing.", highlight=False)


def verify(as_json: Json = False) -> None:
    """Compare the rows of the tables with the ingested uploads of the inbox and the newest backup, by kind and system.

    Exit status 0: no row is missing; 1: rows are missing, or an upload cannot be read; 3: a store did not answer.
    """
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.settings import LakeSettings
    from akosha_assets.lake.upkeep.verification import verify as compare

    settings = LakeSettings()
    with lake_errors(), open_ledger(settings, create=False) as ledger:
        verification = compare(Lake(settings), ledger, now=datetime.now(UTC))
    if as_json:
        emit(asdict(verification))
    else:
        kinds = (asdict(one).values() for one in verification.kinds)
        console.print(grid("Rows", ("kind", "tables", "inbox", "backup", "missing"), kinds))
        if verification.systems:
            systems = (asdict(one).values() for one in verification.systems)
            columns = ("system", "kind", "missing", "in inbox", "in backup", "example id")
            console.print(grid("Missing", columns, systems))
        for name, reason in verification.unread.items():
            console.print(
                f"  not read: {escape_markup(name)}: {escape_markup(reason)}", highlight=False, soft_wrap=True
            )
        compared = f"backup {verification.backup_id}" if verification.backup_id else "no backup"
        console.print(
            f"{verification.uploads_read:,} uploads of the inbox and {compared} were compared; "
            f"{verification.uploads_waiting:,} uploads still wait.",
            highlight=False,
        )
    if verification.missing or verification.unread:
        raise typer.Exit(Exit.FAILED)
