"""Files that no reader and no time travel needs are gone: `upkeep/vacuum`, the delete of every move.

A daily look removes what the log has written off; a weekly one removes what killed writers left behind as well, which
the log never knew of.
"""

from dataclasses import dataclass

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.ledger import known_tables
from akosha_assets.lake.ingestion.ledger.ledger import Ledger

# Longer than the longest write, the longest reader and any time travel that is promised; delta-rs refuses less than a
# week.
RETENTION_HOURS = 168


@dataclass(frozen=True)
class Vacuumed:
    """What vacuum removed, or would: files by path under the table."""

    address: str
    files: int
    is_full: bool
    is_dry_run: bool
    version: int


def vacuum(lake: Lake, ledger: Ledger, address: str, *, is_full: bool, dry_run: bool = True) -> Vacuumed | None:
    """Files written off `RETENTION_HOURS` ago are gone; `is_full`: so are those that age that the log does not know.

    None where there is no such table. A dry run only counts.

    Raises:
        TableLost: a table is not there as the ledger knows it; its files may be all that is left of it, so none is
            removed.
    """
    known_tables.check(ledger, lake)
    table = lake.open(address)
    if table is None:
        return None
    removed = table.vacuum(RETENTION_HOURS, dry_run=dry_run, full=is_full)
    return Vacuumed(address, len(removed), is_full, dry_run, table.version())
