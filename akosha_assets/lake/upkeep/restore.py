"""A backup brought back into an empty lake and an empty ledger, every byte compared with its checksum.

Can be stopped and run again for the same backup. What a backup is made of is in `backup.py`.
"""

import hashlib
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
    """What restoring brought back. Every file had its checksum, every table its version and its count."""

    backup_id: str
    made_at: str
    tables: int
    rows: int
    files: int
    stored_bytes: int
    ledger_rows: dict[str, int]


def restore(settings: LakeSettings, backup_id: str | None = None) -> Restored:
    """The lake and the ledger of the settings are those of the backup, by default the newest.

    Raises:
        NotFound: there is no such backup.
        InvalidRequest: the lake or the ledger is not empty.
        BackupDamaged: a file is missing, or is not what was copied; the lake is left incomplete and must not be used.
    """
    store, into = store_of(settings), ObjectStore(settings.lake())
    names = backups(store)
    name = backup_id or (names[-1] if names else "")
    if name not in names:
        raise NotFound("backup", name or f"at {settings.backup()}")
    found = read(store, name)
    _claim(into, name)
    for table in found.tables:
        # The log comes last, its commits in order: until then there is no table, and then it is whole.
        data = [file for file in table.files if not file.path.startswith("_delta_log/")]
        with ThreadPoolExecutor(COPIES, thread_name_prefix="restore") as pool:
            list(pool.map(lambda file, table=table: _bring(store, into, table, file), data))
        for file in sorted((file for file in table.files if file not in data), key=lambda file: file.path):
            _bring(store, into, table, file)
    with tempfile.TemporaryDirectory(prefix="akosha-restore-") as folder:
        held = Path(folder) / "ledger.sqlite"
        held.write_bytes(_checked(store, f"ledgers/{found.ledger.path}", found.ledger))
        if counts(held) != found.ledger_rows:
            raise BackupDamaged(name, "the ledger", f"{counts(held)} rows", f"{found.ledger_rows}")
        copy_in(settings, held)
    _compare(Lake(settings), found)
    into.delete(MARKER)
    files = [file for table in found.tables for file in table.files]
    rows = sum(table.rows for table in found.tables)
    return Restored(
        name,
        found.made_at,
        len(found.tables),
        rows,
        len(files),
        sum(file.size_bytes for file in files),
        found.ledger_rows,
    )


def _claim(into: ObjectStore, backup_id: str) -> None:
    """The lake is empty, or what lies there came from an earlier try with the same backup."""
    first = next(iter(into.list()), None)
    marker = into.head(MARKER)
    if marker is not None:
        begun = into.read(MARKER, max_bytes=1024).decode()
        if begun != backup_id:
            raise InvalidRequest(
                "lake", f"{into.url} holds the beginning of backup {begun}; finish that one, or empty the place"
            )
    elif first is not None:
        raise InvalidRequest(
            "lake",
            f"{into.url} is not empty (it holds {first.key}); name an empty place in AKOSHA_LAKE_URL or AKOSHA_HOME",
        )
    into.put(MARKER, backup_id.encode())


def _bring(store: ObjectStore, into: ObjectStore, table: TableBackup, file: Copied) -> None:
    into.put(f"{table.address}/{file.path}", _checked(store, f"files/{table.address}/{file.path}", file))


def _checked(store: ObjectStore, key: str, file: Copied) -> bytes:
    try:
        data = store.read(key, max_bytes=FILE_MAX_BYTES)
    except UploadRejected as error:
        raise BackupDamaged(store.url, key, "nothing", "a file") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != file.sha256:
        raise BackupDamaged(store.url, key, f"SHA-256 {digest}", file.sha256)
    return data


def _compare(lake: Lake, found: Backup) -> None:
    """Every table opens at its version and reads as many rows as it had."""
    for table in found.tables:
        opened = lake.open(table.address)
        version = opened.version() if opened is not None else None
        if version != table.version:
            raise BackupDamaged(found.backup_id, table.address, f"version {version}", f"{table.version}")
        first = lake.spec(table.address).schema.names[0]
        rows = lake.select(table.address, [first]).num_rows
        if rows != table.rows:
            raise BackupDamaged(found.backup_id, table.address, f"{rows} rows", f"{table.rows}")
