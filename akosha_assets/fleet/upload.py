"""Writes uploads to an inbox as Session-Buddy does: two gzipped databases without a suffix, then the manifest.

What the databases contain is decided in `systems.py`.
"""

import json
import multiprocessing
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from akosha_assets.fleet.databases import DATABASES, Database, Renderer
from akosha_assets.fleet.rows import Row
from akosha_assets.fleet.systems import FleetPlan, history, system_id
from akosha_assets.lake.objects import ObjectStore

SYSTEMS_PER_TASK = 16
OnUpload = Callable[["UploadedSnapshot"], None]


@dataclass(frozen=True, slots=True)
class UploadedSnapshot:
    """One upload in the inbox. `prefix` ends in a slash; `rows` counts by table; `samples` are some of its texts."""

    system_id: str
    upload_id: str
    prefix: str
    uploaded_at: datetime
    rows: dict[str, int]
    samples: tuple[str, ...] = ()

    @property
    def memories(self) -> int:
        """Rows of the four memory tables."""
        return sum(
            self.rows.get(name, 0) for name in ("conversations_v2", "reflections_v2", "conversations", "reflections")
        )


def upload_fleet(
    inbox_url: str, plan: FleetPlan, *, on_upload: OnUpload | None = None, processes: int = 1
) -> list[UploadedSnapshot]:
    """Upload every snapshot of the plan, those of one system in order; `on_upload` is called after each.

    Several `processes` render systems in parallel; the rows do not depend on their number.
    """
    done: list[UploadedSnapshot] = []
    with closing(_uploads(inbox_url, plan, processes)) as uploads:
        for uploaded in uploads:
            done.append(uploaded)
            if on_upload:
                on_upload(uploaded)
    return done


def write_upload(
    store: ObjectStore,
    system: str,
    tables: Mapping[str, Sequence[Row]],
    *,
    at: datetime,
    renderer: Renderer,
    samples: tuple[str, ...] = (),
) -> UploadedSnapshot:
    """Upload exactly these rows, by table of either database; the manifest is written last."""
    uploaded = UploadedSnapshot(
        system, upload_id(system, at), "", at, {name: len(rows) for name, rows in tables.items()}, samples
    )
    return put_files(store, uploaded, compressed(renderer, tables))


def upload_id(system: str, at: datetime) -> str:
    """The id of an upload: its UTC second and the system's name."""
    return f"{at.astimezone(UTC):%Y%m%d_%H%M%S}_{system}"


def upload_prefix(system: str, upload: str) -> str:
    """The key prefix of the files of an upload in the inbox."""
    return f"systems/{system}/uploads/{upload}/"


def compressed(renderer: Renderer, tables: Mapping[str, Sequence[Row]]) -> dict[Database, bytes]:
    """Both databases with these rows, gzipped."""
    reflection = {name: rows for name, rows in tables.items() if not name.startswith("kg_")}
    graph = {name: rows for name, rows in tables.items() if name.startswith("kg_")}
    return {
        "reflection": renderer.render("reflection", reflection),
        "knowledge_graph": renderer.render("knowledge_graph", graph),
    }


def put_files(store: ObjectStore, uploaded: UploadedSnapshot, files: Mapping[Database, bytes]) -> UploadedSnapshot:
    """Upload these files and, last, their manifest; returns `uploaded` with its prefix."""
    prefix = upload_prefix(uploaded.system_id, uploaded.upload_id)
    for name in DATABASES:
        if name in files:
            store.put(f"{prefix}{name}.duckdb", files[name])
    present = [name for name in DATABASES if name in files]
    store.put(f"{prefix}manifest.json", manifest(uploaded.system_id, uploaded.upload_id, uploaded.uploaded_at, present))
    return replace(uploaded, prefix=prefix)


def manifest(system: str, upload: str, at: datetime, databases: Sequence[Database]) -> bytes:
    """The manifest as Session-Buddy writes it, with empty sizes and checksums."""
    prefix = upload_prefix(system, upload)
    files = [
        {
            "name": f"{name}.duckdb",
            "path": f"{prefix}{name}.duckdb",
            "size_bytes": 0,
            "compression": "gzip",
            "checksum": "",
        }
        for name in databases
    ]
    content = {
        "upload_id": upload,
        "system_id": system,
        "timestamp": at.astimezone(UTC).isoformat(),
        "files": files,
        "metadata": {"uploader": "session-buddy", "version": "1.0.0"},
    }
    return json.dumps(content, indent=2).encode()


def _uploads(inbox_url: str, plan: FleetPlan, processes: int) -> Generator[UploadedSnapshot, None, None]:
    distinct = min(plan.distinct or plan.systems, plan.systems)
    if distinct < plan.systems:
        yield from _upload_copies(inbox_url, plan, distinct)
        return
    tasks = [range(start, min(start + SYSTEMS_PER_TASK, distinct)) for start in range(0, distinct, SYSTEMS_PER_TASK)]
    if processes == 1 or len(tasks) == 1:
        with Renderer() as renderer:
            for index in range(distinct):
                yield from _upload_system(ObjectStore(inbox_url), plan, index, renderer)
        return
    # Spawned instead of forked: DuckDB and the object store run threads.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(_upload_systems, inbox_url, plan, task) for task in tasks]
        try:
            for future in futures:
                yield from future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _upload_systems(inbox_url: str, plan: FleetPlan, indexes: range) -> list[UploadedSnapshot]:
    with Renderer() as renderer:
        store = ObjectStore(inbox_url)
        return [uploaded for index in indexes for uploaded in _upload_system(store, plan, index, renderer)]


def _upload_system(store: ObjectStore, plan: FleetPlan, index: int, renderer: Renderer) -> Iterator[UploadedSnapshot]:
    for snapshot in history(plan, index):
        yield write_upload(
            store, system_id(index), snapshot.tables, at=snapshot.at, renderer=renderer, samples=snapshot.samples
        )


def _upload_copies(inbox_url: str, plan: FleetPlan, distinct: int) -> Iterator[UploadedSnapshot]:
    store = ObjectStore(inbox_url)
    with Renderer() as renderer:
        rendered = [
            [(snapshot, compressed(renderer, snapshot.tables)) for snapshot in history(plan, index)]
            for index in range(distinct)
        ]
    for index in range(plan.systems):
        for number, (snapshot, files) in enumerate(rendered[index % distinct]):
            system, at = system_id(index), plan.uploaded_at(index, number)
            counts = {name: len(rows) for name, rows in snapshot.tables.items()}
            yield put_files(
                store, UploadedSnapshot(system, upload_id(system, at), "", at, counts, snapshot.samples), files
            )
