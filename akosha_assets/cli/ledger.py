"""`akosha redrive`, `akosha ledger rebuild` and `akosha inbox expire`: maintain uploads and their ledger."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from akosha_assets.cli.ledgers import open_ledger
from akosha_assets.cli.output import (
    Exit,
    Json,
    console,
    emit,
    error_console,
    escape_markup,
    fail,
    format_bytes,
    lake_errors,
)

ledger_app = typer.Typer(no_args_is_help=True, help="Maintain the ledger of uploads.")
inbox_app = typer.Typer(no_args_is_help=True, help="Maintain the inbox.")

LISTED = 20


def redrive(
    upload: Annotated[str, typer.Option(help="Only this upload.")] = "",
    reason: Annotated[str, typer.Option(help="Only uploads quarantined for this reason code.")] = "",
    system: Annotated[str, typer.Option(help="Only uploads of this system.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every quarantined upload.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the uploads that would be ingested again.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Return quarantined uploads to the queue with their attempts reset; the next ingest run claims them.

    Exit status 0: done; 1: no upload matched; 2: no filter and no --all, or an unknown reason; 3: the ledger did not
    answer.
    """
    from akosha_assets.lake.settings import LakeSettings

    if not (upload or reason or system or everything):
        raise fail(
            "no uploads selected; give --upload, --reason, --system, or --all for every quarantined upload", Exit.USAGE
        )
    with lake_errors(), open_ledger(LakeSettings(), create=not dry_run) as ledger:
        names = ledger.redrive(
            upload_id=upload or None,
            reason=reason or None,
            system_id=system or None,
            dry_run=dry_run,
            now=datetime.now(UTC),
        )
    if as_json:
        emit({"uploads": names, "dry_run": dry_run})
    else:
        _print_names(names, "would be queued again" if dry_run else "are queued again")
    if not names:
        raise typer.Exit(Exit.FAILED)


@ledger_app.command()
def rebuild(as_json: Json = False) -> None:
    """Restore a lost ledger from the tables and the inbox; no row is stored twice afterwards.

    Exit status 0: done; 2: the ledger already has ingested uploads; 3: a store did not answer.
    """
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.ingestion.ledger_rebuild import rebuild as restore
    from akosha_assets.lake.settings import LakeSettings

    settings = LakeSettings()
    with lake_errors(), open_ledger(settings, create=True) as ledger:
        rebuilt = restore(Lake(settings), ledger, now=datetime.now(UTC))
    if as_json:
        emit(asdict(rebuilt))
    else:
        console.print(
            f"{rebuilt.ingested:,} uploads of {rebuilt.systems:,} systems were found in the tables; "
            f"{rebuilt.waiting:,} wait to be compared with the tables.",
            highlight=False,
        )


@inbox_app.command()
def expire(
    remove: Annotated[bool, typer.Option("--remove", help="Remove them. Without it they are only listed.")] = False,
    as_json: Json = False,
) -> None:
    """List, or remove, the objects of uploads that were ingested more than AKOSHA_INBOX_KEEP_DAYS ago.

    Exit status 0: done; 1: some could not be removed and are listed; 3: the inbox or the ledger did not answer.
    """
    from akosha_assets.lake.settings import LakeSettings
    from akosha_assets.lake.upkeep.inbox import expire as remove_expired

    settings = LakeSettings()
    with lake_errors(), open_ledger(settings, create=remove) as ledger:
        expired = remove_expired(settings, ledger, now=datetime.now(UTC), dry_run=not remove)
    if as_json:
        emit(asdict(expired))
    else:
        outcome = "were removed" if remove else "would be removed; --remove does it"
        _print_names(expired.uploads, f"({format_bytes(expired.bytes)}) {outcome}")
        for name, reason in list(expired.failed.items())[:LISTED]:
            error_console.print(f"  {escape_markup(name)}: {escape_markup(reason)}", highlight=False)
        if expired.failed:
            error_console.print(f"{len(expired.failed):,} uploads could not be removed.", highlight=False)


def _print_names(names: list[str], outcome: str) -> None:
    for name in names[:LISTED]:
        console.print(f"  {escape_markup(name)}", highlight=False)
    if len(names) > LISTED:
        console.print(f"  … and {len(names) - LISTED:,} more", highlight=False)
    console.print(f"{len(names):,} uploads {outcome}" if names else "No upload matched.", highlight=False)
