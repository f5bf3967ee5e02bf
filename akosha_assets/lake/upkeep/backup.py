"""Copies a consistent set of table versions and the ledger to `AKOSHA_BACKUP_URL`: `upkeep/backup`.

    files/{address}/{path}      data and log files of the tables; they never change, so each is copied once
    ledgers/{backup}.sqlite     the ledger
    backups/{backup}.json.gz    the backup's files with checksums; written last, so it exists only when complete

`restore.py` restores a backup.
"""

import gzip
import hashlib
import json
import re
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import InvalidRequest, TableContended
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.schemas import TABLES
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.tables import Table
from akosha_assets.lake.upkeep.ledger_copy import copy_out

CUT_ATTEMPTS = 30
COPIES = 4
# A younger file that no backup names may belong to a backup that is being made.
ORPHAN_AGE = timedelta(days=2)
FILE_MAX_BYTES = 16 * 1024**3
_LOG = re.compile(r"_delta_log/(\d{20})\.(json|checkpoint\.parquet)$")


@dataclass(frozen=True)
class Copied:
    """One file of a backup: its path under the table, its size and its SHA-256."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class TableBackup:
    """One table of a backup, at one version."""

    address: str
    version: int
    rows: int
    files: list[Copied]


@dataclass(frozen=True)
class Backup:
    """The contents of one backup."""

    backup_id: str
    made_at: str
    tables: list[TableBackup]
    ledger: Copied
    ledger_rows: dict[str, int]


@dataclass(frozen=True)
class Made:
    """The result of making a backup."""

    backup_id: str
    tables: int
    rows: int
    files: int
    files_copied: int
    bytes_copied: int
    backups_pruned: int
    files_pruned: int


def store_of(settings: LakeSettings) -> ObjectStore:
    """The store of the backups.

    Raises:
        InvalidRequest: AKOSHA_BACKUP_URL is not set.
    """
    if not settings.backup_url:
        raise InvalidRequest(
            "AKOSHA_BACKUP_URL", "is not set; name a folder or bucket outside the lake, for example s3://backups/akosha"
        )
    return ObjectStore(settings.backup())


def backup(lake: Lake, ledger: Ledger, *, now: datetime) -> Made:
    """Makes a backup at `AKOSHA_BACKUP_URL`, copies only files that are not there yet, and prunes old backups.

    Raises:
        InvalidRequest: AKOSHA_BACKUP_URL is not set.
        TableContended: the tables changed all the time, so no consistent set of versions was found.
    """
    store = store_of(lake.settings)
    backup_id = f"{now:%Y%m%dT%H%M%SZ}"
    before = backups(store)
    known = {
        f"{table.address}/{file.path}": file
        for table in (read(store, before[-1]).tables if before else [])
        for file in table.files
    }
    with tempfile.TemporaryDirectory(prefix="akosha-backup-") as folder:
        ledger_copy = Path(folder) / "ledger.sqlite"
        tables, ledger_rows = _consistent_cut(lake, ledger, ledger_copy)
        data = ledger_copy.read_bytes()
    store.put(f"ledgers/{backup_id}.sqlite", data)
    source = ObjectStore(lake.settings.lake())
    copied: list[Copied] = []

    def copy(address: str, path: str) -> Copied:
        file = known.get(f"{address}/{path}")
        if file is None:
            content = source.read(f"{address}/{path}", max_bytes=FILE_MAX_BYTES)
            store.put(f"files/{address}/{path}", content)
            file = Copied(path, len(content), hashlib.sha256(content).hexdigest())
            copied.append(file)
        return file

    described = []
    with ThreadPoolExecutor(COPIES, thread_name_prefix="backup") as pool:
        for address, table in tables.items():
            actions = pa.table(table.get_add_actions(flatten=True))
            paths = [*actions["path"].to_pylist(), *_log_paths(source, address, table.version())]
            files = list(pool.map(partial(copy, address), paths))
            described.append(TableBackup(address, table.version(), sum(actions["num_records"].to_pylist()), files))
    ledger_file = Copied(f"{backup_id}.sqlite", len(data), hashlib.sha256(data).hexdigest())
    made = Backup(backup_id, now.isoformat(), described, ledger_file, ledger_rows)
    store.put(f"backups/{backup_id}.json.gz", gzip.compress(json.dumps(asdict(made)).encode()))
    pruned = prune(store, keep_after=now - timedelta(days=lake.settings.backup_days), now=now)
    return Made(
        backup_id=backup_id,
        tables=len(described),
        rows=sum(table.rows for table in described),
        files=sum(len(table.files) for table in described),
        files_copied=len(copied),
        bytes_copied=sum(file.size_bytes for file in copied) + len(data),
        backups_pruned=pruned[0],
        files_pruned=pruned[1],
    )


def backups(store: ObjectStore) -> list[str]:
    """The ids of the backups, oldest first."""
    return sorted(
        item.key.removeprefix("backups/").removesuffix(".json.gz")
        for item in store.list("backups")
        if item.key.endswith(".json.gz")
    )


def read(store: ObjectStore, backup_id: str) -> Backup:
    """The contents of the backup."""
    stored = json.loads(gzip.decompress(store.read(f"backups/{backup_id}.json.gz", max_bytes=FILE_MAX_BYTES)))
    tables = [
        TableBackup(**(table | {"files": [Copied(**file) for file in table["files"]]})) for table in stored["tables"]
    ]
    return Backup(stored["backup_id"], stored["made_at"], tables, Copied(**stored["ledger"]), stored["ledger_rows"])


def prune(store: ObjectStore, *, keep_after: datetime, now: datetime) -> tuple[int, int]:
    """Removes backups from before `keep_after`, except the newest, and files that no backup names.

    Returns the number of backups and of files removed.
    """
    names = backups(store)
    old = [name for name in names[:-1] if datetime.strptime(f"{name[:-1]}+0000", "%Y%m%dT%H%M%S%z") < keep_after]
    for name in old:
        store.delete(f"backups/{name}.json.gz")
        store.delete(f"ledgers/{name}.sqlite")
    if not old:
        return 0, 0
    named = {
        f"files/{table.address}/{file.path}"
        for name in names
        if name not in old
        for table in read(store, name).tables
        for file in table.files
    }
    orphans = [
        item.key for item in store.list("files") if item.key not in named and now - item.modified_at > ORPHAN_AGE
    ]
    for key in orphans:
        store.delete(key)
    return len(old), len(orphans)


def _consistent_cut(lake: Lake, ledger: Ledger, to: Path) -> tuple[dict[str, Table], dict[str, int]]:
    """Table versions and a copy of the ledger that belong together: no table changed while the ledger was copied.

    With a ledger older than the tables an upload would be ingested twice; with a newer one its rows would be missing.
    """
    for attempt in range(CUT_ATTEMPTS):
        to.unlink(missing_ok=True)
        tables = _open(lake)
        rows = copy_out(ledger, to)
        after = _open(lake)
        changed = [
            address
            for address in after
            if address not in tables or after[address].version() != tables[address].version()
        ]
        if not changed:
            return tables, rows
        time.sleep(0.05 * 2 ** min(attempt, 5))
    raise TableContended(", ".join(changed), CUT_ATTEMPTS, "tables were written to while the ledger was copied")


def _open(lake: Lake) -> dict[str, Table]:
    return {address: table for address in TABLES if (table := lake.open(address)) is not None}


def _log_paths(source: ObjectStore, address: str, version: int) -> Iterator[str]:
    """The log files that opening `version` needs: the newest checkpoint up to it, and the commits after that."""
    entries = []
    for item in source.list(f"{address}/_delta_log"):
        path = item.key.removeprefix(f"{address}/")
        matched = _LOG.match(path)
        if matched and int(matched[1]) <= version:
            entries.append((int(matched[1]), matched[2], path))
    first = max((number for number, kind, _ in entries if kind != "json"), default=-1)
    for number, kind, path in sorted(entries):
        if (kind == "json" and number >= first) or (kind != "json" and number == first):
            yield path
