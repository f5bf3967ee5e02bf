"""Faulty uploads as a real fleet sends them: each shows that ingestion isolates one bad upload from the others."""

from datetime import datetime

from isal import igzip

from akosha_assets.fleet.databases import Renderer
from akosha_assets.fleet.systems import FleetPlan, history
from akosha_assets.fleet.upload import UploadedSnapshot, compressed, manifest, put_files, upload_id, upload_prefix
from akosha_assets.lake.objects import ObjectStore

FAULTS = {
    "no-manifest": "Both databases are there, the manifest never arrived.",
    "manifest-not-json": "The manifest is truncated.",
    "truncated-database": "The gzip stream of `reflection.duckdb` ends in the middle.",
    "not-a-database": "`reflection.duckdb` is text.",
    "name with space": "The system's name contains a space.",
    "no-tables": "A valid database without any table, as on a machine's first day; not an error.",
}


def upload_faults(inbox_url: str, *, at: datetime, seed: int = 0) -> dict[str, str]:
    """Upload one system per fault, named after it; returns the upload id by fault."""
    store = ObjectStore(inbox_url)
    upload_ids = {}
    with Renderer() as renderer:
        tables = history(FleetPlan(systems=1, memories=10, now=at, seed=seed), 0)[-1].tables
        files = compressed(renderer, tables)
        no_tables = renderer.empty()
    for fault in FAULTS:
        system = fault if fault == "name with space" else f"fault-{fault}"
        upload = upload_ids[fault] = upload_id(system, at)
        prefix = upload_prefix(system, upload)
        contents = dict(files)
        match fault:
            case "no-manifest" | "manifest-not-json":
                for name, data in files.items():
                    store.put(f"{prefix}{name}.duckdb", data)
                if fault == "manifest-not-json":
                    store.put(f"{prefix}manifest.json", manifest(system, upload, at, list(files))[:100])
                continue
            case "truncated-database":
                contents["reflection"] = files["reflection"][: len(files["reflection"]) // 2]
            case "not-a-database":
                contents["reflection"] = igzip.compress(b"this is not a database\n" * 500)
            case "no-tables":
                contents["reflection"] = no_tables
        put_files(store, UploadedSnapshot(system, upload, prefix, at, {}), contents)
    return upload_ids
