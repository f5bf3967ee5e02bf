"""Files that no reader and no time travel needs are gone: `upkeep/vacuum`, the delete of every move.

A daily look removes what the log has written off; a weekly one removes what killed writers left behind as well, which
the log never knew of.
"""

from dataclasses import dataclass

from akosha_assets.lake.catalog import Lake

# Longer than the longest write, the longest reader and any time travel that is promised; delta-rs refuses less than a week.
RETENTION_HOURS = 168


@dataclass(frozen=True)
class Vacuumed:
    """What vacuum removed, or would: files by path under the table."""

    address: str
    files: int
    is_full: bool
    is_dry_run: bool
    version: int


def vacuum(lake: Lake, address: str, *, is_full: bool, dry_run: bool = True) -> Vacuumed | None:
    """Files written off `RETENTION_HOURS` ago are gone; `is_full`: so are those that age that the log does not know.

    None where there is no such table. A dry run only counts.
    """
    table = lake.open(address)
    if table is None:
        return None
    removed = table.vacuum(RETENTION_HOURS, dry_run=dry_run, full=is_full)
    return Vacuumed(address, len(removed), is_full, dry_run, table.version())
