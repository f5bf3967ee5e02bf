"""Dagster's storage in `AKOSHA_HOME/dagster`, for every `dagster` command wherever it is started.

`dagster.yaml` names the three classes here: Dagster would resolve a plain path there against the current folder and
refuse an unset variable, while these follow the setting `home`. `python -m akosha_assets.instance` migrates the
storage, sets the limit of the pool `ingest` and ends runs whose process is gone; `akosha up` runs it before any other
service.
"""

import sys
from pathlib import Path
from typing import Any

import click
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData

from akosha_assets.dagster_settings import read_settings

IN_PROGRESS = [
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


def storage_folder() -> Path:
    """The folder of Dagster's storage, created if it is missing."""
    folder = read_settings().home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class HomeStorage(DagsterSqliteStorage):
    """Runs, events and ticks in SQLite under the home."""

    @classmethod
    def config_type(cls) -> Any:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "HomeStorage":  # noqa: ARG003
        return cls.from_local(str(storage_folder()), inst_data)


class HomeArtifactStorage(LocalArtifactStorage):
    """Artifacts of runs under the home."""

    @classmethod
    def config_type(cls) -> Any:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "HomeArtifactStorage":  # noqa: ARG003
        return cls(str(storage_folder()), inst_data)


class HomeComputeLogs(LocalComputeLogManager):
    """Output of runs under the home."""

    @classmethod
    def config_type(cls) -> Any:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "HomeComputeLogs":  # noqa: ARG003
        return cls(base_dir=str(storage_folder() / "logs"), inst_data=inst_data)


def end_orphaned_runs(instance: DagsterInstance) -> list[str]:
    """Every run in progress is marked as failed; returns their ids. Call it only while no run process is alive."""
    orphans = instance.get_runs(RunsFilter(statuses=IN_PROGRESS))
    for run in orphans:
        instance.report_run_failed(
            run, "The process of this run ended with the services that started it. Its uploads are ingested again."
        )
    return [run.run_id for run in orphans]


def main() -> int:
    """The storage has the schema of this Dagster and no orphaned runs; returns the exit status."""
    try:
        settings = read_settings()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    with DagsterInstance.get() as instance:
        instance.upgrade()
        instance.event_log_storage.set_concurrency_slots("ingest", settings.ingest_runs)
        ended = end_orphaned_runs(instance)
    sys.stdout.write(f"dagster storage {storage_folder()} is up to date; {len(ended)} orphaned runs ended\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
