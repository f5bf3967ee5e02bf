"""Gives a table that lost its log a new one over the data files that are there: `akosha repair`.

Nothing is deleted: the old log, where there is one, is moved to a folder beside it, and files that cannot be read or
whose rows are replaced stay where they are. Rows that the lost log had removed come back: aging, retention and the next
grouping remove them again. How one file is read is in `data_files.py`, which of several forms of a row counts in
`row_index.py`.
"""

import logging
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from akosha_assets.lake import tables
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.duckdb_session import connect
from akosha_assets.lake.errors import InvalidRequest, TableLost, UploadRejected
from akosha_assets.lake.ingestion import ledger_rebuild
from akosha_assets.lake.ingestion.ledger import known_tables, replay
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.schema import batches
from akosha_assets.lake.ingestion.ledger.states import LIVE
from akosha_assets.lake.objects import Object, ObjectStore
from akosha_assets.lake.schemas import TABLES
from akosha_assets.lake.table_spec import bare
from akosha_assets.lake.upkeep.data_files import FILE_MAX_BYTES, TableFile, UnreadableFile, local_copy
from akosha_assets.lake.upkeep.row_index import MEMORY_MIB, RowIndex

logger = logging.getLogger(__name__)

LOG = "_delta_log"


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """What repairing a table found and did. `unreadable` says by file what is wrong with it."""

    address: str
    files: int
    rows_in_files: int
    rows: int
    rows_superseded: int
    files_rewritten: int
    unreadable: dict[str, str]
    old_log: str | None
    version: int


@dataclass
class _Contents:
    """The readable files of a table by number, and what is wrong with the others."""

    files: dict[int, TableFile] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    # By file, the rows that do not count: (rows,) int64, ascending.
    superseded: dict[int, np.ndarray] = field(default_factory=dict)


def repair(lake: Lake, ledger: Ledger, address: str, *, now: datetime) -> Repaired:
    """The table has a new log over its data files, each row once in its newest form, and the ledger knows the table.

    Raises:
        InvalidRequest: there is no such table, nothing is wrong with it, or ingestion is running.
        TableLost: no data file can be read.
        StoreUnavailable: the store did not answer; run it again.
    """
    if address not in TABLES:
        raise InvalidRequest("table", f"found {address!r}; expected one of {', '.join(TABLES)}")
    _refuse_while_ingesting(ledger, now)
    store = ObjectStore(f"{lake.settings.lake()}/{address}")
    with tempfile.TemporaryDirectory(prefix="akosha-repair-") as name:
        scratch = Path(name)
        contents = _read(lake, store, address, scratch, now)
        if not contents.files:
            found = (
                f"has {len(contents.unreadable)} data files and none can be read" if contents.unreadable else "is gone"
            )
            raise TableLost(lake.uri(address), found)
        if known_tables.find_loss(ledger, lake, address) is None and _is_whole(lake, address, contents):
            raise InvalidRequest(
                "table", f"nothing is wrong with {address}: it has its log, and every file of it can be read"
            )
        described = []
        rewritten = 0
        for number, file in contents.files.items():
            superseded = contents.superseded.get(number)
            if superseded is None:
                described.append(file.describe())
            elif len(superseded) < file.rows:
                described.append(_rewrite(store, file, superseded, scratch, now))
                rewritten += 1
    old_log = _move_log_aside(store, now)
    table = tables.create_over_files(
        lake.uri(address), lake.spec(address), described, lake.storage_options, {"akosha_op": "repair"}
    )
    _tell_ledger(ledger, lake, address)
    in_files = sum(file.rows for file in contents.files.values())
    lost = sum(len(rows) for rows in contents.superseded.values())
    return Repaired(
        address=address,
        files=len(contents.files) + len(contents.unreadable),
        rows_in_files=in_files,
        rows=in_files - lost,
        rows_superseded=lost,
        files_rewritten=rewritten,
        unreadable=contents.unreadable,
        old_log=old_log,
        version=table.version(),
    )


def _refuse_while_ingesting(ledger: Ledger, now: datetime) -> None:
    live = sa.and_(batches.c.state.in_(LIVE), batches.c.lease_until > now)
    with ledger.read() as connection:
        running = connection.scalar(sa.select(sa.func.count()).select_from(batches).where(live))
    if running:
        raise InvalidRequest("table", f"{running} ingest batches are running; stop everything that writes, then repair")


def _read(lake: Lake, store: ObjectStore, address: str, scratch: Path, now: datetime) -> _Contents:
    contents = _Contents()
    spec = lake.spec(address)
    spill = scratch / "spill"
    spill.mkdir()
    with connect(memory_mib=MEMORY_MIB, spill=spill) as connection:
        index = RowIndex(connection, spec, now=now)
        for number, entry in enumerate(_data_entries(store)):
            with ExitStack() as stack:
                try:
                    file = TableFile(entry, local_copy(store, entry.key, scratch, stack), spec)
                    for batch in file.read():
                        index.add(number, entry.modified_at, file.rows - batch.num_rows, batch)
                except (UnreadableFile, UploadRejected) as error:
                    logger.warning("a data file cannot be read", extra={"table": address, "file": entry.key})
                    contents.unreadable[entry.key] = str(error)
                    index.remove(number)
                    continue
            contents.files[number] = file
        contents.superseded = index.superseded()
    return contents


def _data_entries(store: ObjectStore) -> Iterator[Object]:
    """Parquet files of the table; files in hidden folders, such as logs, are none."""
    for entry in store.list():
        if entry.key.endswith(".parquet") and not any(part.startswith(("_", ".")) for part in entry.key.split("/")):
            yield entry


def _is_whole(lake: Lake, address: str, contents: _Contents) -> bool:
    """Whether the table opens and every file of its newest version can be read."""
    table = lake.open(address)
    if table is None:
        return False
    readable = {file.describe().path for file in contents.files.values()}
    return set(tables.data_files(table)["path"].to_pylist()) <= readable


def _rewrite(
    store: ObjectStore, file: TableFile, superseded: np.ndarray, scratch: Path, now: datetime
) -> tables.FileEntry:
    """A new file beside `file` holds its rows without `superseded`, (rows,) int64, ascending."""
    schema = bare(file.spec.schema)
    for name in file.spec.partition_by:
        schema = schema.remove(schema.get_field_index(name))
    path = scratch / "rewritten.parquet"
    with ExitStack() as stack:
        source = TableFile(file.entry, local_copy(store, file.entry.key, scratch, stack), file.spec)
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for batch in source.read():
                places = np.arange(source.rows - batch.num_rows, source.rows)
                kept = batch.filter(pa.array(~np.isin(places, superseded)))
                writer.write_table(pa.table(kept).select(schema.names))
    folder, slash, _ = file.entry.key.rpartition("/")
    key = f"{folder}{slash}part-repaired-{uuid.uuid4()}.zstd.parquet"
    store.put(key, path.read_bytes())
    made = TableFile(Object(key, path.stat().st_size, "", now), path, file.spec, day=file.day)
    for _ in made.read():
        pass
    return made.describe()


def _move_log_aside(store: ObjectStore, now: datetime) -> str | None:
    """Moves the log to the folder that is returned; None if there was none.

    Copied before it is removed, so that a process that dies leaves all of it in one of both places.
    """
    keys = [entry.key for entry in store.list(LOG)]
    if not keys:
        return None
    folder = f"_delta_log_until_{now:%Y%m%dT%H%M%SZ}"
    for key in keys:
        store.put(folder + key.removeprefix(LOG), store.read(key, max_bytes=FILE_MAX_BYTES))
    for key in reversed(keys):
        store.delete(key)
    return folder


def _tell_ledger(ledger: Ledger, lake: Lake, address: str) -> None:
    """The ledger knows the new table, and compares the next uploads with the rows that are there."""
    known_tables.adopt(ledger, lake, address)
    ledger_rebuild.adopt(ledger, lake)
    replay.forget_rows(ledger)
