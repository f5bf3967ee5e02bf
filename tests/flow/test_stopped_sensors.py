"""The watch sees a real Dagster instance: sensors and schedules that were stopped, fail to tick or miss a tick.

The webserver serves the real definitions, without a daemon: ticks are executed by the functions that the daemon calls.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import httpx
import pytest
import uvicorn
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_representation.external import RemoteRepository
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, ScheduleInstigatorData, TickStatus
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.sensor import execute_sensor_iteration
from dagster_webserver.app import create_app_from_workspace_process_context

from akosha_assets.lake.ingestion.ledger.ledger import SWEEP_ENDED, Ledger
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.watch import alerts, conditions, dagster_conditions, orchestration
from akosha_assets.lake.watch.alert_kinds import AlertState

pytestmark = pytest.mark.timeout(240)

STOP_SENSOR = "mutation Stop($id: String!) { stopSensor(id: $id) { __typename } }"
STOP_SCHEDULE = "mutation Stop($id: String!) { stopRunningSchedule(id: $id) { __typename } }"
START_SENSOR = "mutation Start($selector: SensorSelector!) { startSensor(sensorSelector: $selector) { __typename } }"
IDS = """{
  sensorsOrError(repositorySelector: {repositoryLocationName: "akosha", repositoryName: "__repository__"}) {
    ... on Sensors { results { name sensorState { id } } }
  }
  schedulesOrError(repositorySelector: {repositoryLocationName: "akosha", repositoryName: "__repository__"}) {
    ... on Schedules { results { name scheduleState { id } } }
  }
}"""


@dataclass
class Dagster:
    """A Dagster instance with the real definitions, and its webserver."""

    context: WorkspaceProcessContext
    url: str
    ledger: Ledger

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = httpx.post(f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=60).json()
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    def repository(self) -> RemoteRepository:
        location = self.context.create_request_context().get_code_location("akosha")
        return location.get_repository("__repository__")

    def tick_sensors(self) -> None:
        """Ticks every running sensor once."""
        list(execute_sensor_iteration(self.context, logging.getLogger("ticks"), None, None))

    def state_id(self, name: str) -> str:
        data = self.ask(IDS)
        found = [one for kind in data.values() for one in kind["results"] if one["name"] == name]
        return str((found[0].get("sensorState") or found[0]["scheduleState"])["id"])

    def evaluate(self, now: datetime) -> set[str]:
        """One round of the watch at `now`; the keys of alerts that fire."""
        conditions.evaluate(self.ledger, now=now)
        return {alert.key for alert in alerts.list_alerts(self.ledger, state=AlertState.FIRING)}


@pytest.fixture(scope="module")
def dagster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dagster]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch, dg.instance_for_test() as instance:
        patch.setenv("AKOSHA_HOME", str(home))
        # A longer time limit, because the machine may be busy.
        patch.setattr(orchestration, "TIMEOUT_SECONDS", 60.0)
        target = ModuleTarget("akosha_assets.definitions", None, None, "akosha")
        with WorkspaceProcessContext(instance, target) as context, socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            app = create_app_from_workspace_process_context(context, "", 1000)
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
            thread.start()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            ledger = Ledger.open(LakeSettings(home=home, dagster_url=url, backlog_age_seconds=10**6))
            ledger.remember(SWEEP_ENDED, datetime.now(UTC).isoformat())
            _until(lambda: server.started)
            yield Dagster(context, url, ledger)
            server.should_exit = True
            thread.join()
            ledger.close()


def test_a_stopped_sensor_and_a_stopped_schedule_fire_and_resolve(dagster: Dagster) -> None:
    now = datetime.now(UTC)
    assert not [key for key in dagster.evaluate(now) if key.startswith("stopped/")]
    dagster.ask(STOP_SENSOR, id=dagster.state_id("upload_sensor"))
    dagster.ask(STOP_SCHEDULE, id=dagster.state_id("embed_schedule"))
    assert {"stopped/upload_sensor", "stopped/embed_schedule"} <= dagster.evaluate(now)
    severities = {one.key: one.severity for one in alerts.list_alerts(dagster.ledger)}
    assert (severities["stopped/upload_sensor"], severities["stopped/embed_schedule"]) == ("critical", "warning")
    selector = {
        "repositoryLocationName": "akosha",
        "repositoryName": "__repository__",
        "sensorName": "upload_sensor",
    }
    dagster.ask(START_SENSOR, selector=selector)
    firing = dagster.evaluate(now + timedelta(minutes=2))
    assert "stopped/upload_sensor" not in firing and "stopped/embed_schedule" in firing


def test_a_sensor_fires_until_it_ticks_and_while_its_ticks_fail(
    dagster: Dagster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dagster_conditions, "SENSOR_LAG_SECONDS", 30)
    for sensor in dagster.repository().get_sensors():
        if sensor.name != "upload_sensor":
            dagster.context.instance.stop_sensor(sensor.get_remote_origin_id(), sensor.selector_id, sensor)
    now = datetime.now(UTC)
    assert "sensor/upload_sensor" not in dagster.evaluate(now)
    assert "sensor/upload_sensor" in dagster.evaluate(now + timedelta(seconds=31))
    # There is no inbox, so this tick fails.
    dagster.tick_sensors()
    firing = dagster.evaluate(datetime.now(UTC) + timedelta(minutes=2))
    assert "tick/upload_sensor" in firing
    dagster.ledger.settings.home.joinpath("inbox").mkdir()
    monkeypatch.setattr(dagster_conditions, "SENSOR_LAG_SECONDS", 600)
    sensor = next(one for one in dagster.repository().get_sensors() if one.name == "upload_sensor")

    def succeeds() -> bool:
        # Dagster skips a tick that follows another within the sensor's interval.
        dagster.tick_sensors()
        ticks = dagster.context.instance.get_ticks(sensor.get_remote_origin_id(), sensor.selector_id, limit=1)
        return ticks[0].status != TickStatus.FAILURE

    _until(succeeds)
    firing = dagster.evaluate(datetime.now(UTC) + timedelta(minutes=4))
    assert not {"tick/upload_sensor", "sensor/upload_sensor"} & firing


def test_a_schedule_that_misses_its_tick_fires(dagster: Dagster) -> None:
    now = datetime.now(UTC)
    schedule = dagster.repository().get_schedule("compact_tables_hourly")
    # The daemon saw it three hours ago and has not called it since.
    data = ScheduleInstigatorData(schedule.cron_schedule, (now - timedelta(hours=3)).timestamp())
    state = InstigatorState(schedule.get_remote_origin(), InstigatorType.SCHEDULE, InstigatorStatus.RUNNING, data)
    dagster.context.instance.add_instigator_state(state)
    assert "schedule/compact_tables_hourly" in dagster.evaluate(now)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
