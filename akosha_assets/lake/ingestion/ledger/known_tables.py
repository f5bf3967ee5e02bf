"""The tables that were written to: the ledger records the Delta id of each, and a version that it has reached.

A table is lost if it is missing, was created again or was reset to an older version. Nothing may be written in its
place before it is repaired: an empty table would look like the old one.
"""

import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import LakeError, TableLost
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.schemas import TABLES
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.tables import KnownTable, Table

logger = logging.getLogger(__name__)

KEY, LOST_KEY = "tables", "lost_table"


def find_all(ledger: Ledger) -> dict[str, KnownTable]:
    """Returns every table that was written to, by address."""
    tables = json.loads(ledger.remembered(KEY) or "{}")
    return {address: KnownTable(**table) for address, table in tables.items()}


def remember(ledger: Ledger, lake: Lake, versions: Mapping[str, int]) -> None:
    """Records that the tables have reached these versions."""
    known = find_all(ledger)
    added = {address: _id(lake.open(address)) for address in versions if address not in known}

    def merge(text: str | None) -> str:
        tables = json.loads(text or "{}")
        for address, version in versions.items():
            before = tables.get(address)
            table_id = before["id"] if before else added.get(address)
            if table_id is not None:
                tables[address] = asdict(KnownTable(table_id, max(version, before["version"] if before else 0)))
        return json.dumps(tables)

    if versions:
        ledger.update(KEY, merge)


def check(ledger: Ledger, lake: Lake, addresses: Collection[str] | None = None) -> None:
    """Checks that every table that was written to, or those of `addresses`, exists and has not lost versions.

    Raises:
        TableLost: a table is lost; the ledger records it as lost until a check of all tables succeeds.
    """
    tables = find_all(ledger)
    lake.expected.clear()
    lake.expected.update(tables)
    for address, known in tables.items():
        if addresses is not None and address not in addresses:
            continue
        found = _loss(lake, address, known)
        if found is not None:
            ledger.remember(LOST_KEY, json.dumps({"address": address, "found": found}))
            raise TableLost(lake.uri(address), found)
    if addresses is None and ledger.remembered(LOST_KEY):
        ledger.remember(LOST_KEY, "")


@contextmanager
def guarded(lake: Lake) -> Iterator[None]:
    """Runs a block that writes to tables: checks the tables before it, and records their versions after it.

    Raises: the errors of `check` and of the block.
    """
    with closing(Ledger.open(lake.settings)) as ledger:
        check(ledger, lake)
        remember_all(ledger, lake)
        yield
        remember_all(ledger, lake)


def remember_all(ledger: Ledger, lake: Lake) -> None:
    """Records every existing table at its current version."""
    remember(
        ledger, lake, {address: table.version() for address in TABLES if (table := lake.open(address)) is not None}
    )


def adopt(ledger: Ledger, lake: Lake, address: str) -> None:
    """Records the current table in place of the one that the ledger knew before."""
    table = lake.open(address)
    if table is None:
        raise TableLost(lake.uri(address), "is gone")
    lake.expected[address] = found = KnownTable.from_handle(table)
    ledger.update(KEY, lambda text: json.dumps(json.loads(text or "{}") | {address: asdict(found)}))


def find_loss(ledger: Ledger, lake: Lake, address: str) -> str | None:
    """Returns what is wrong with the table, according to the ledger and the lake; None if nothing is."""
    known = find_all(ledger).get(address)
    if known is not None:
        return _loss(lake, address, known)
    return "has data files and no log" if lake.open(address) is None and lake.has_lost_log(address) else None


def lost(ledger: Ledger) -> tuple[str, str] | None:
    """Returns the address of the table that the last check found lost, and the reason; None if none is lost."""
    text = ledger.remembered(LOST_KEY)
    if not text:
        return None
    record = json.loads(text)
    return record["address"], record["found"]


def _loss(lake: Lake, address: str, known: KnownTable) -> str | None:
    """Returns what is wrong with the table; None if nothing is."""
    table = lake.open(address)
    if table is None:
        return "has data files and no log" if lake.has_lost_log(address) else "is gone"
    return known.find_loss(KnownTable.from_handle(table))


def _id(table: Table | None) -> str | None:
    return None if table is None else str(table.metadata().id)


def reader(settings: LakeSettings) -> Callable[[str], KnownTable | None]:
    """Returns a function that looks up the current record of a table by address.

    The function returns None if the ledger does not know the table, does not exist or does not answer.
    """

    def read(address: str) -> KnownTable | None:
        url = settings.ledger()
        if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
            return None
        try:
            with closing(Ledger.open(settings)) as ledger:
                return find_all(ledger).get(address)
        except LakeError as error:
            logger.warning("the ledger did not answer", extra={"table": address, "cause": str(error)})
            return None

    return read
