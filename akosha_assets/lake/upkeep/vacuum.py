"""Removes data files that no reader and no time travel needs any more: `upkeep/vacuum`.

A daily run removes files that the log has removed; a weekly full run also removes files of killed writers, which the
log never had.
"""

from dataclasses import dataclass

from akosha_assets.lake import tables
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.ledger import known_tables
from akosha_assets.lake.ingestion.ledger.ledger import Ledger

# Longer than any write, any reader and the promised time travel; delta-rs refuses less than a week.
RETENTION_HOURS = 168


@dataclass(frozen=True)
class Vacuumed:
    """The number of files that vacuum removed or would remove."""

    address: str
    files: int
    is_full: bool
    is_dry_run: bool
    version: int


def vacuum(lake: Lake, ledger: Ledger, address: str, *, is_full: bool, dry_run: bool = True) -> Vacuumed | None:
    """Removes files that left the log `RETENTION_HOURS` ago; `is_full`: also files of that age that it never had.

    None if there is no such table. A dry run only counts.

    Raises:
        TableLost: a table is not as the ledger knows it; its files may be all that is left of it, so none are removed.
    """
    known_tables.check(ledger, lake)
    table = lake.open(address)
    if table is None:
        return None
    removed = tables.vacuum(table, RETENTION_HOURS, is_full=is_full, dry_run=dry_run)
    return Vacuumed(address, len(removed), is_full, dry_run, table.version())
