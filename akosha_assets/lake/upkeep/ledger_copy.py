"""Copies a ledger from any of its databases into a SQLite file, and back. A copy is one consistent snapshot."""

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from akosha_assets.lake.errors import InvalidRequest
from akosha_assets.lake.ingestion.ledger import schema
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.settings import LakeSettings

CHUNK_ROWS = 1_000


def copy_out(ledger: Ledger, to: Path) -> dict[str, int]:
    """Copies the ledger into the SQLite file `to`; returns the rows of each table."""
    if ledger.engine.dialect.name == "sqlite":
        _pages(ledger.engine.url.database or "", str(to))
        with closing(sqlite3.connect(to)) as copy:
            # A copy is one file without a journal beside it.
            copy.execute("PRAGMA journal_mode=DELETE")
    else:
        target = _open(ledger.settings, to)
        _transfer(ledger, target)
        target.close()
    return counts(to)


def copy_in(settings: LakeSettings, file: Path) -> None:
    """Copies the SQLite file into the ledger of the settings, which must be empty.

    Raises:
        InvalidRequest: the ledger already has uploads.
    """
    ledger = Ledger.open(settings)
    try:
        with ledger.read() as connection:
            known = connection.scalar(sa.select(sa.func.count()).select_from(schema.uploads))
        if known:
            raise InvalidRequest(
                "ledger", f"it knows {known} uploads already; a backup is restored beside an empty ledger only"
            )
        if ledger.engine.dialect.name == "sqlite":
            # Page by page, which includes the counters that keep ids unique.
            ledger.close()
            _pages(str(file), ledger.engine.url.database or "")
            return
        source = _open(settings, file)
        try:
            _transfer(source, ledger)
        finally:
            source.close()
    finally:
        ledger.close()


def counts(file: Path) -> dict[str, int]:
    """Rows of each table of the SQLite file.

    Raises:
        InvalidRequest: the file is damaged.
    """
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        result = connection.execute("PRAGMA integrity_check").fetchone()[0]
        if result != "ok":
            raise InvalidRequest("ledger", f"the copy is damaged: {result}")
        return {
            table.name: connection.execute(f'SELECT count(*) FROM "{table.name}"').fetchone()[0]  # noqa: S608
            for table in _tables()
        }


def _tables() -> list[sa.Table]:
    return schema.metadata.sorted_tables


def _open(settings: LakeSettings, file: Path) -> Ledger:
    return Ledger.open(settings.model_copy(update={"ledger_url": f"sqlite:///{file}"}))


def _pages(source: str, target: str) -> None:
    with closing(sqlite3.connect(source)) as reading, closing(sqlite3.connect(target)) as writing:
        reading.backup(writing)


def _transfer(source: Ledger, target: Ledger) -> None:
    isolation = "REPEATABLE READ" if source.engine.dialect.name == "postgresql" else "SERIALIZABLE"
    with (
        source.engine.connect().execution_options(isolation_level=isolation) as reading,
        reading.begin(),
        target.write() as writing,
    ):
        for table in _tables():
            writing.execute(table.delete())
            for part in reading.execute(sa.select(table)).mappings().partitions(CHUNK_ROWS):
                writing.execute(table.insert(), [dict(row) for row in part])
            if writing.dialect.name == "postgresql" and "id" in table.c and table.c["id"].autoincrement is True:
                writing.execute(
                    sa.text(
                        f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), coalesce((SELECT max(id) FROM "  # noqa: S608
                        f"{table.name}), 1))"
                    )
                )
