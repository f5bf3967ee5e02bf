"""Restores a backup into an empty lake and an empty ledger, and compares every file with its checksum.

Can be stopped and run again for the same backup. `backup.py` describes the files of a backup.
"""

import hashlib
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import BackupDamaged, InvalidRequest, NotFound, UploadRejected
from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.upkeep.backup import (
    COPIES,
    FILE_MAX_BYTES,
    Backup,
    Copied,
    TableBackup,
    backups,
    read,
    store_of,
)
from akosha_assets.lake.upkeep.ledger_copy import copy_in, counts

MARKER = "restoring"


@dataclass(frozen=True)
class Restored:
    """The result of a restore: every file matched its checksum, every table its version and row count."""

    backup_id: str
    made_at: str
    tables: int
    rows: int
    files: int
    stored_bytes: int
    ledger_rows: dict[str, int]


def restore(settings: LakeSettings, backup_id: str | None = None) -> Restored:
    """Restores the lake and the ledger of the settings from a backup, by default the newest.

    Raises:
        NotFound: there is no such backup.
        InvalidRequest: the lake or the ledger is not empty.
        BackupDamaged: a file is missing or differs from its checksum; the lake is incomplete and must not be used.
    """
    store, into = store_of(settings), ObjectStore(settings.lake())
    names = backups(store)
    name = backup_id or (names[-1] if names else "")
    if name not in names:
        raise NotFound("backup", name or f"at {settings.backup()}")
    backup = read(store, name)
    _claim(into, name)
    for table in backup.tables:
        # The log comes last, its commits in order: the table exists only when it is complete.
        data = [file for file in table.files if not file.path.startswith("_delta_log/")]
        with ThreadPoolExecutor(COPIES, thread_name_prefix="restore") as pool:
            list(pool.map(partial(_copy, store, into, table), data))
        for file in sorted((file for file in table.files if file not in data), key=lambda file: file.path):
            _copy(store, into, table, file)
    with tempfile.TemporaryDirectory(prefix="akosha-restore-") as folder:
        ledger_copy = Path(folder) / "ledger.sqlite"
        ledger_copy.write_bytes(_read_checked(store, f"ledgers/{backup.ledger.path}", backup.ledger))
        if counts(ledger_copy) != backup.ledger_rows:
            raise BackupDamaged(name, "the ledger", f"{counts(ledger_copy)} rows", f"{backup.ledger_rows}")
        copy_in(settings, ledger_copy)
    _compare(Lake(settings), backup)
    into.delete(MARKER)
    files = [file for table in backup.tables for file in table.files]
    return Restored(
        backup_id=name,
        made_at=backup.made_at,
        tables=len(backup.tables),
        rows=sum(table.rows for table in backup.tables),
        files=len(files),
        stored_bytes=sum(file.size_bytes for file in files),
        ledger_rows=backup.ledger_rows,
    )


def _claim(into: ObjectStore, backup_id: str) -> None:
    """Marks the lake as being restored. Raises: InvalidRequest unless it is empty or has a partial restore of this
    backup.
    """
    first = next(iter(into.list()), None)
    marker = into.head(MARKER)
    if marker is not None:
        begun = into.read(MARKER, max_bytes=1024).decode()
        if begun != backup_id:
            raise InvalidRequest(
                "lake", f"{into.url} has a partial restore of backup {begun}; finish that one, or empty the folder"
            )
    elif first is not None:
        raise InvalidRequest(
            "lake",
            f"{into.url} is not empty (it has {first.key}); name an empty folder in AKOSHA_LAKE_URL or AKOSHA_HOME",
        )
    into.put(MARKER, backup_id.encode())


def _copy(store: ObjectStore, into: ObjectStore, table: TableBackup, file: Copied) -> None:
    into.put(f"{table.address}/{file.path}", _read_checked(store, f"files/{table.address}/{file.path}", file))


def _read_checked(store: ObjectStore, key: str, file: Copied) -> bytes:
    """The bytes of `key`. Raises: BackupDamaged if they do not match the checksum."""
    try:
        data = store.read(key, max_bytes=FILE_MAX_BYTES)
    except UploadRejected as error:
        raise BackupDamaged(store.url, key, "nothing", "a file") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != file.sha256:
        raise BackupDamaged(store.url, key, f"SHA-256 {digest}", file.sha256)
    return data


def _compare(lake: Lake, backup: Backup) -> None:
    """Raises: BackupDamaged if a table does not have the version and the row count of the backup."""
    for table in backup.tables:
        opened = lake.open(table.address)
        version = opened.version() if opened is not None else None
        if version != table.version:
            raise BackupDamaged(backup.backup_id, table.address, f"version {version}", f"{table.version}")
        first = lake.spec(table.address).schema.names[0]
        rows = lake.select(table.address, [first]).num_rows
        if rows != table.rows:
            raise BackupDamaged(backup.backup_id, table.address, f"{rows} rows", f"{table.rows}")
