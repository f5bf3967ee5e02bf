"""A consistent set of table versions and the ledger, copied to `AKOSHA_BACKUP_URL`: `upkeep/backup`.

    files/{address}/{path}      data and log files of the tables; never changed, so copied once
    ledgers/{backup}.sqlite     the ledger
    backups/{backup}.json.gz    what belongs to a backup, with checksums; written last, so that it exists only when whole

Bringing one back is in `restore.py`.
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
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import InvalidRequest, TableContended
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.schemas import TABLES
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.upkeep.ledger_copy import copy_out

CUT_ATTEMPTS = 30
COPIES = 4
# A file that no backup names may belong to one that is being made.
ORPHAN_AGE = timedelta(days=2)
FILE_MAX_BYTES = 16 * 1024**3
_LOG = re.compile(r"_delta_log/(\d{20})\.(json|checkpoint\.parquet)$")


@dataclass(frozen=True)
class Copied:
    """One file of a backup: where it lies under the table, its bytes and their SHA-256."""

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
    """Everything that belongs to one backup."""

    backup_id: str
    made_at: str
    tables: list[TableBackup]
    ledger: Copied
    ledger_rows: dict[str, int]


@dataclass(frozen=True)
class Made:
    """What making a backup did."""

    backup_id: str
    tables: int
    rows: int
    files: int
    files_copied: int
    bytes_copied: int
    backups_pruned: int
    files_pruned: int


def store_of(settings: LakeSettings) -> ObjectStore:
    """Where backups lie.

    Raises:
        InvalidRequest: no place was named.
    """
    if not settings.backup_url:
        raise InvalidRequest(
            "AKOSHA_BACKUP_URL", "is not set; name a folder or bucket outside the lake, for example s3://backups/akosha"
        )
    return ObjectStore(settings.backup())


def backup(lake: Lake, ledger: Ledger, *, now: datetime) -> Made:
    """A new backup lies at `AKOSHA_BACKUP_URL`; files that lie there already are not copied, old backups are pruned.

    Raises:
        InvalidRequest: no place was named.
        TableContended: the tables changed without pause, so that no moment fitted all of them.
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
        held = Path(folder) / "ledger.sqlite"
        tables, ledger_rows = _cut(lake, ledger, held)
        data = held.read_bytes()
    store.put(f"ledgers/{backup_id}.sqlite", data)
    source = ObjectStore(lake.settings.lake())
    copied: list[Copied] = []

    def keep(address: str, path: str) -> Copied:
        found = known.get(f"{address}/{path}")
        if found is None:
            content = source.read(f"{address}/{path}", max_bytes=FILE_MAX_BYTES)
            store.put(f"files/{address}/{path}", content)
            found = Copied(path, len(content), hashlib.sha256(content).hexdigest())
            copied.append(found)
        return found

    described = []
    with ThreadPoolExecutor(COPIES, thread_name_prefix="backup") as pool:
        for address, table in tables.items():
            actions = pa.table(table.get_add_actions(flatten=True))
            paths = [*actions["path"].to_pylist(), *_log_paths(source, address, table.version())]
            files = list(pool.map(lambda path, address=address: keep(address, path), paths))
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
    """The backups that lie there, oldest first."""
    return sorted(
        item.key.removeprefix("backups/").removesuffix(".json.gz")
        for item in store.list("backups")
        if item.key.endswith(".json.gz")
    )


def read(store: ObjectStore, backup_id: str) -> Backup:
    """What belongs to the backup."""
    held = json.loads(gzip.decompress(store.read(f"backups/{backup_id}.json.gz", max_bytes=FILE_MAX_BYTES)))
    tables = [
        TableBackup(**(table | {"files": [Copied(**file) for file in table["files"]]})) for table in held["tables"]
    ]
    return Backup(held["backup_id"], held["made_at"], tables, Copied(**held["ledger"]), held["ledger_rows"])


def prune(store: ObjectStore, *, keep_after: datetime, now: datetime) -> tuple[int, int]:
    """Backups from before `keep_after` are gone, except the newest, and files that no backup names any more; returns
    both counts.
    """
    every = backups(store)
    old = [name for name in every[:-1] if datetime.strptime(f"{name[:-1]}+0000", "%Y%m%dT%H%M%S%z") < keep_after]
    for name in old:
        store.delete(f"backups/{name}.json.gz")
        store.delete(f"ledgers/{name}.sqlite")
    if not old:
        return 0, 0
    named = {
        f"files/{table.address}/{file.path}"
        for name in every
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


def _cut(lake: Lake, ledger: Ledger, held: Path) -> tuple[dict[str, DeltaTable], dict[str, int]]:
    """Table versions and a copy of the ledger that were true together: no table changed while the ledger was copied.

    With a ledger older than the tables an upload would be taken in twice, with a newer one its rows would be missing.
    """
    for attempt in range(CUT_ATTEMPTS):
        held.unlink(missing_ok=True)
        tables = _open(lake)
        rows = copy_out(ledger, held)
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


def _open(lake: Lake) -> dict[str, DeltaTable]:
    return {address: table for address in TABLES if (table := lake.open(address)) is not None}


def _log_paths(source: ObjectStore, address: str, version: int) -> Iterator[str]:
    """The part of the log that opening `version` needs: the newest checkpoint up to it, and the commits after that."""
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
