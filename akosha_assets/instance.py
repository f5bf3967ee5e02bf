"""Dagster's own storage under `AKOSHA_HOME/dagster`, wherever a `dagster` command is started.

`dagster.yaml` names the three classes here. Dagster reads a plain path there relative to the current folder and refuses
an unset variable; these follow the setting `home` as everything else does. `python -m akosha_assets.instance` brings
the storage up to date, sets the limit of the pool `ingest` and ends runs whose process is gone; `akosha up` calls it
before it starts anything.
"""

import sys
from pathlib import Path
from typing import Any

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData

from akosha_assets.lake.settings import LakeSettings

ALIVE = [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]


def storage_folder() -> Path:
    """The folder of Dagster's storage; it exists."""
    folder = LakeSettings().home / "dagster"
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
    """Files of runs under the home."""

    @classmethod
    def config_type(cls) -> Any:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "HomeArtifactStorage":  # noqa: ARG003
        return cls(str(storage_folder()), inst_data)


class HomeComputeLogs(LocalComputeLogManager):
    """What runs print, under the home."""

    @classmethod
    def config_type(cls) -> Any:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "HomeComputeLogs":  # noqa: ARG003
        return cls(base_dir=str(storage_folder() / "logs"), inst_data=inst_data)


def end_orphaned_runs(instance: DagsterInstance) -> list[str]:
    """No run is shown as running; returns the ids of those that were. Call it only while no run process lives."""
    orphans = instance.get_runs(RunsFilter(statuses=ALIVE))
    for run in orphans:
        instance.report_run_failed(
            run, "The process of this run ended with the services that started it. Its uploads are taken in again."
        )
    return [run.run_id for run in orphans]


def main() -> int:
    """The storage has the schema of this Dagster and no orphaned run."""
    with DagsterInstance.get() as instance:
        instance.upgrade()
        instance.event_log_storage.set_concurrency_slots("ingest", LakeSettings().ingest_runs)
        ended = end_orphaned_runs(instance)
    sys.stdout.write(f"dagster storage {storage_folder()} is up to date; {len(ended)} orphaned runs ended\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
