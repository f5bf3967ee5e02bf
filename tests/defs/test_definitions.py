"""The code location loads and contains what the docs describe."""

import functools
import json
import os
from importlib.util import find_spec
from pathlib import Path

import dagster as dg

from akosha_assets.definitions import defs
from akosha_assets.lake.schemas import TABLES, WRITTEN_BY_INGESTION

ROOT = Path(__file__).parents[2]
# Written by the ingest run, so their logic is that of ingestion/arrivals.
BY_ARRIVALS = {spec.address for spec in WRITTEN_BY_INGESTION} - {"lifecycle/hot"}
# Materialized by the sensor of `lifecycle/aging`; they have no module of their own.
DUTIES = {"lifecycle/embeddings"}


@functools.cache
def loaded() -> dg.Definitions:
    return defs()


def specs() -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in loaded().resolve_all_asset_specs()}


def test_the_definitions_load_without_a_problem() -> None:
    dg.Definitions.validate_loadable(loaded())


def test_the_dependencies_of_ingestion_are_those_in_the_docs() -> None:
    dependencies = {name: sorted(dep.asset_key.to_user_string() for dep in spec.deps) for name, spec in specs().items()}
    by_arrivals = {address: ["ingestion/arrivals"] for address in BY_ARRIVALS}
    expected = {
        "ingestion/uploads": [],
        "ingestion/ledger": ["ingestion/uploads"],
        "ingestion/arrivals": ["ingestion/ledger"],
        "ingestion/backlog": ["ingestion/ledger"],
        "lifecycle/hot": ["ingestion/arrivals"],
        **by_arrivals,
    }
    assert {name: dependencies.get(name) for name in expected} == expected


def test_sensors_and_schedules_run_by_default() -> None:
    repository = loaded().get_repository_def()
    assert {"ingest", "replay_arrivals", "rebuild_hot_day", "embed"} <= {job.name for job in repository.get_all_jobs()}
    sensor = repository.get_sensor_def("upload_sensor")
    assert (sensor.default_status, sensor.minimum_interval_seconds) == (dg.DefaultSensorStatus.RUNNING, 1)
    assert repository.get_schedule_def("embed_schedule").default_status == dg.DefaultScheduleStatus.RUNNING


def snapshot() -> dict[str, object]:
    """Every asset with what it depends on, every job, sensor and schedule."""
    repository = loaded().get_repository_def()
    return {
        "assets": {
            name: sorted(dep.asset_key.to_user_string() for dep in spec.deps) for name, spec in sorted(specs().items())
        },
        "jobs": sorted(job.name for job in repository.get_all_jobs() if not job.name.startswith("__")),
        "sensors": {
            sensor.name: sensor.minimum_interval_seconds
            for sensor in sorted(repository.sensor_defs, key=lambda one: one.name)
        },
        "schedules": {
            one.name: [one.job_name, one.cron_schedule]
            for one in sorted(repository.schedule_defs, key=lambda one: one.name)
        },
    }


def test_the_definitions_are_those_of_the_snapshot() -> None:
    path = Path(__file__).parent / "definitions.json"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.write_text(json.dumps(snapshot(), indent=2) + "\n")
    assert snapshot() == json.loads(path.read_text()), "if that is meant, run this test with UPDATE_SNAPSHOTS=1"


def test_runs_start_no_process_for_each_step() -> None:
    for job in loaded().get_repository_def().get_all_jobs():
        assert job.executor_def.name == "in_process", job.name


def test_every_asset_has_a_description_owners_kinds_and_columns() -> None:
    for name, spec in specs().items():
        assert spec.description and spec.group_name == name.split("/")[0] and spec.owners and spec.kinds, name
        if name in TABLES:
            shown = spec.metadata["dagster/column_schema"].columns
            assert [column.name for column in shown] == TABLES[name].schema.names, name
            assert all(column.description for column in shown), name


def test_an_address_is_the_same_everywhere() -> None:
    headings = (ROOT / "docs/tables.md").read_text()
    for address in specs():
        group, name = address.split("/")
        assert address in BY_ARRIVALS | DUTIES or find_spec(f"akosha_assets.defs.{group}.{name}"), (
            f"{address}: no module in defs"
        )
        assert f"\n## {address}\n" in headings, f"{address}: no heading in docs/tables.md"
        assert address not in TABLES or TABLES[address].address == address, f"{address}: another table folder"
        assert address in BY_ARRIVALS | DUTIES or find_spec(f"akosha_assets.lake.{group}.{name}"), (
            f"{address}: no module in lake"
        )


def test_loading_the_definitions_imports_no_heavy_library() -> None:
    import subprocess
    import sys

    heavy = ("dagster_aws", "boto3", "faiss", "fastembed", "onnxruntime", "tantivy", "fastapi")
    code = (
        f"import sys; from akosha_assets.definitions import defs; defs(); print([m for m in {heavy} if m in "
        "sys.modules])"
    )
    loaded_modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.strip()
    assert loaded_modules == "[]"
