"""`akosha backup` and `akosha restore`: copy a consistent state of tables and ledger, and bring it back."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from akosha_assets.cli.ledgers import open_ledger
from akosha_assets.cli.output import Json, console, emit, format_bytes, key_values, lake_errors


def backup(as_json: Json = False) -> None:
    """Copy a consistent set of table versions and the ledger to AKOSHA_BACKUP_URL; files already there are skipped.

    Exit status 0: done; 2: AKOSHA_BACKUP_URL is not set; 3: a store did not answer, or the tables kept changing.
    """
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.settings import LakeSettings
    from akosha_assets.lake.upkeep.backup import backup as make
    from akosha_assets.lake.upkeep.backup import store_of

    settings = LakeSettings()
    with lake_errors():
        store_of(settings)
        with open_ledger(settings, create=True) as ledger:
            created = make(Lake(settings), ledger, now=datetime.now(UTC))
    if as_json:
        emit(asdict(created))
        return
    summary = {name.replace("_", " "): value for name, value in asdict(created).items() if name != "backup_id"}
    summary["bytes copied"] = format_bytes(created.bytes_copied)
    console.print(key_values(f"Backup {created.backup_id}", summary.items()))


def restore(
    backup_id: Annotated[str | None, typer.Option("--backup", help="Id of the backup. Unset: the newest.")] = None,
    is_list: Annotated[bool, typer.Option("--list", help="List the backups and restore nothing.")] = False,
    is_drill: Annotated[
        bool, typer.Option("--drill", help="Restore the newest to a temporary place, verify it, and remove it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Restore a backup into an empty lake and an empty ledger, and verify every checksum; run it again if interrupted.

    Exit status 0: restored; 1: there is no backup, or it is damaged; 2: the lake is not empty; 3: a store did not
    answer.
    """
    from akosha_assets.lake.settings import LakeSettings
    from akosha_assets.lake.upkeep.backup import backups, store_of
    from akosha_assets.lake.upkeep.restore import restore as restore_backup
    from akosha_assets.lake.upkeep.restore_drill import drill

    settings = LakeSettings()
    with lake_errors():
        if is_list:
            names = backups(store_of(settings))
            emit({"backups": names}) if as_json else console.print(
                "\n".join(names) or "There is no backup.", highlight=False
            )
            return
        restored = drill(settings) if is_drill else restore_backup(settings, backup_id)
    if as_json:
        emit(asdict(restored))
        return
    done = "can be restored" if is_drill else "is restored"
    console.print(
        f"Backup {restored.backup_id} of {restored.made_at} {done}: every checksum, version and count matches.",
        highlight=False,
    )
    console.print(
        f"{restored.tables} tables, {restored.rows:,} rows, {restored.files:,} files, "
        f"{format_bytes(restored.stored_bytes)}",
        highlight=False,
    )
