"""`akosha redrive`, `akosha ledger rebuild`, `akosha inbox expire`: what an operator does to uploads and their ledger."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from akosha_assets.cli.ledgers import open_ledger
from akosha_assets.cli.output import Exit, Json, console, emit, fail, foreign, lake_errors, size

ledger_app = typer.Typer(no_args_is_help=True, help="The memory of ingestion.")
inbox_app = typer.Typer(no_args_is_help=True, help="What the fleet uploaded.")

SHOWN = 20


def redrive(
    upload: Annotated[str, typer.Option(help="Only this upload.")] = "",
    reason: Annotated[str, typer.Option(help="Only uploads quarantined for this reason code.")] = "",
    system: Annotated[str, typer.Option(help="Only uploads of this system.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every quarantined upload.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only name what would be taken in again.")] = False,
    as_json: Json = False,
) -> None:
    """Let quarantined uploads wait again, with their attempts forgotten; the next ingest run takes them.

    Exit status 0: done; 1: nothing matched; 2: neither a choice nor --all was given, or no such reason; 3: the ledger
    did not answer.
    """
    from akosha_assets.lake.settings import LakeSettings

    if not (upload or reason or system or everything):
        raise fail("say which: --upload, --reason, --system, or --all for every quarantined upload", Exit.USAGE)
    with lake_errors(), open_ledger(LakeSettings(), create=not dry_run) as ledger:
        names = ledger.redrive(
            upload_id=upload or None, reason=reason or None, system_id=system or None, dry_run=dry_run
        )
    if as_json:
        emit({"uploads": names, "dry_run": dry_run})
    else:
        _named(names, "would wait again" if dry_run else "wait again")
    if not names:
        raise typer.Exit(Exit.FAILED)


@ledger_app.command()
def rebuild(as_json: Json = False) -> None:
    """Restore a lost ledger from the tables and the inbox. Nothing is stored twice afterwards.

    Exit status 0: done; 2: the ledger has taken uploads in already; 3: a store did not answer.
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
            f"{rebuilt.ingested:,} uploads of {rebuilt.systems:,} systems are known from the tables; "
            f"{rebuilt.waiting:,} wait to be compared with them.",
            highlight=False,
        )


@inbox_app.command()
def expire(
    remove: Annotated[
        bool, typer.Option("--remove", help="Really remove them; without it they are only named.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Name, or remove, uploads that were taken in more than AKOSHA_INBOX_KEEP_DAYS ago.

    Exit status 0: done; 3: the inbox or the ledger did not answer.
    """
    from akosha_assets.lake.settings import LakeSettings
    from akosha_assets.lake.upkeep.inbox import expire as remove_expired

    settings = LakeSettings()
    with lake_errors(), open_ledger(settings, create=remove) as ledger:
        expired = remove_expired(settings, ledger, now=datetime.now(UTC), dry_run=not remove)
    if as_json:
        emit(asdict(expired))
        return
    _named(
        expired.uploads,
        f"({size(expired.bytes)}) {'left the inbox' if remove else 'would leave the inbox; --remove does it'}",
    )


def _named(names: list[str], became: str) -> None:
    for name in names[:SHOWN]:
        console.print(f"  {foreign(name)}", highlight=False)
    if len(names) > SHOWN:
        console.print(f"  … and {len(names) - SHOWN:,} more", highlight=False)
    console.print(f"{len(names):,} uploads {became}" if names else "No upload matched.", highlight=False)
