"""`akosha backup` and `akosha restore`: tables and ledger of one moment, away and back."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from akosha_assets.cli.ledgers import open_ledger
from akosha_assets.cli.output import Json, console, emit, lake_errors, pairs, size


def backup(as_json: Json = False) -> None:
    """Copy a consistent set of table versions and the ledger to AKOSHA_BACKUP_URL. Files that lie there already are not
    copied again.

    Exit status 0: made; 2: AKOSHA_BACKUP_URL is not set; 3: a store did not answer, or the tables changed without
    pause.
    """
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.settings import LakeSettings
    from akosha_assets.lake.upkeep.backup import backup as make
    from akosha_assets.lake.upkeep.backup import store_of

    settings = LakeSettings()
    with lake_errors():
        store_of(settings)
        with open_ledger(settings, create=True) as ledger:
            made = make(Lake(settings), ledger, now=datetime.now(UTC))
    if as_json:
        emit(asdict(made))
        return
    told = {name.replace("_", " "): value for name, value in asdict(made).items() if name != "backup_id"}
    told["bytes copied"] = size(made.bytes_copied)
    console.print(pairs(f"Backup {made.backup_id}", told.items()))


def restore(
    backup_id: Annotated[str | None, typer.Option("--backup", help="Which backup. Unset: the newest.")] = None,
    is_list: Annotated[bool, typer.Option("--list", help="List the backups and restore nothing.")] = False,
    is_drill: Annotated[
        bool, typer.Option("--drill", help="Restore the newest into a scratch place, compare, and remove it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring a backup back into an empty lake and an empty ledger, comparing every checksum. Stopped half-way, run it
    again.

    Exit status 0: restored; 1: there is none, or it is damaged; 2: the lake is not empty; 3: a store did not answer.
    """
    from akosha_assets.lake.settings import LakeSettings
    from akosha_assets.lake.upkeep.backup import backups, store_of
    from akosha_assets.lake.upkeep.restore import restore as bring
    from akosha_assets.lake.upkeep.restore_drill import drill

    settings = LakeSettings()
    with lake_errors():
        if is_list:
            names = backups(store_of(settings))
            emit({"backups": names}) if as_json else console.print(
                "\n".join(names) or "No backup lies there.", highlight=False
            )
            return
        restored = drill(settings) if is_drill else bring(settings, backup_id)
    if as_json:
        emit(asdict(restored))
        return
    done = "can be restored" if is_drill else "is restored"
    console.print(
        f"Backup {restored.backup_id} of {restored.made_at} {done}: every checksum, version and count fits.",
        highlight=False,
    )
    console.print(
        f"{restored.tables} tables, {restored.rows:,} rows, {restored.files:,} files, {size(restored.stored_bytes)}",
        highlight=False,
    )
