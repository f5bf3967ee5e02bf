"""Dagster over GraphQL: reads its queue, runs, daemons, sensors, schedules, checks and freshness, and launches runs.

It needs only the address of Dagster's webserver, so the API can use it without importing Dagster.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx

from akosha_assets.lake.errors import OrchestratorUnavailable

LOCATION, REPOSITORY = "akosha", "__repository__"
TIMEOUT_SECONDS = 5.0
FAILURES_WITHIN = timedelta(days=1)
# A schedule's tick may come this much later than its cron line says.
TICK_GRACE = timedelta(minutes=5)

STATE = """
query State($failedAfter: Float!, $ticksBefore: Float!) {
  instance { daemonHealth { allDaemonStatuses { daemonType required healthy lastHeartbeatTime } } }
  queued: runsOrError(filter: {statuses: [QUEUED]}, limit: 500) { ... on Runs { results { runId creationTime } } }
  active: runsOrError(filter: {statuses: [STARTING, STARTED, CANCELING]}, limit: 500) {
    ... on Runs { results { runId jobName } }
  }
  ended: runsOrError(filter: {statuses: [SUCCESS, FAILURE], createdAfter: $failedAfter}, limit: 500) {
    ... on Runs { results { runId jobName status } }
  }
  sensorsOrError(repositorySelector: {repositoryLocationName: "akosha", repositoryName: "__repository__"}) {
    ... on Sensors { results { name minIntervalSeconds sensorState { status ticks(limit: 1) { timestamp status } } } }
  }
  schedulesOrError(repositorySelector: {repositoryLocationName: "akosha", repositoryName: "__repository__"}) {
    ... on Schedules { results {
      name
      potentialTickTimestamps(startTimestamp: $ticksBefore, upperLimit: 1, lowerLimit: 1)
      scheduleState {
        status ticks(limit: 1) { timestamp status } typeSpecificData { ... on ScheduleData { startTimestamp } }
      }
    } }
  }
  assetNodes {
    assetKey { path }
    freshnessStatusInfo { freshnessStatus }
    assetChecksOrError {
      ... on AssetChecks {
        checks { name executionForLatestMaterialization { evaluation { severity success description } } }
      }
    }
  }
}
"""
LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on InvalidSubsetError { message }
    ... on UnauthorizedError { message }
    ... on PipelineNotFoundError { message }
  }
}
"""


@dataclass(frozen=True)
class FailedCheck:
    """An asset check whose newest evaluation failed. `severity` is WARN or ERROR."""

    asset: str
    name: str
    severity: str
    reason: str


@dataclass(frozen=True)
class Orchestration:
    """The state of Dagster at one instant. Ages are in seconds."""

    queued: int = 0
    oldest_queued_seconds: float = 0.0
    # Runs that start or run: runId and jobName of each.
    active: list[dict[str, str]] = field(default_factory=list)
    # Failed runs of the last day, by job.
    failed_by_job: dict[str, int] = field(default_factory=dict)
    # Id of the newest ended run of each job where that run failed.
    failed_last: dict[str, str] = field(default_factory=dict)
    failed_checks: list[FailedCheck] = field(default_factory=list)
    # Seconds since each required daemon's last heartbeat.
    heartbeat_seconds: dict[str, float] = field(default_factory=dict)
    # Seconds by which the next tick of each running sensor is overdue; sensors without any tick are in `never_ticked`.
    sensor_lag_seconds: dict[str, float] = field(default_factory=dict)
    never_ticked: list[str] = field(default_factory=list)
    # Running schedules without the tick that their cron line asks for: when it was due, in seconds since the epoch.
    missed_ticks: dict[str, float] = field(default_factory=dict)
    # `sensor` or `schedule` by name: those that are stopped, and those whose newest tick failed.
    stopped: dict[str, str] = field(default_factory=dict)
    failing: dict[str, str] = field(default_factory=dict)
    # healthy, warning, degraded or unknown, by asset with a freshness policy.
    freshness: dict[str, str] = field(default_factory=dict)


def read(url: str, *, token: str = "", now: datetime) -> Orchestration:
    """The state of Dagster at `now`; `token` is sent as bearer token unless it is empty.

    Raises:
        OrchestratorUnavailable: Dagster does not answer at `url`.
    """
    variables = {
        "failedAfter": (now - FAILURES_WITHIN).timestamp(),
        "ticksBefore": (now - TICK_GRACE).timestamp(),
    }
    data = _post(url, token, STATE, variables)
    seconds = now.timestamp()
    queued = data["queued"].get("results", [])
    failed: dict[str, int] = {}
    newest: dict[str, dict[str, str]] = {}
    for run in data["ended"].get("results", []):
        failed[run["jobName"]] = failed.get(run["jobName"], 0) + (run["status"] == "FAILURE")
        newest.setdefault(run["jobName"], run)
    daemons = [one for one in data["instance"]["daemonHealth"]["allDaemonStatuses"] if one["required"]]
    sensors = data["sensorsOrError"].get("results", [])
    schedules = data["schedulesOrError"].get("results", [])
    states = [
        *(("sensor", one["name"], one["sensorState"]) for one in sensors),
        *(("schedule", one["name"], one["scheduleState"]) for one in schedules),
    ]
    running = [one for one in sensors if one["sensorState"]["status"] == "RUNNING"]
    return Orchestration(
        queued=len(queued),
        oldest_queued_seconds=max((seconds - run["creationTime"] for run in queued), default=0.0),
        active=data["active"].get("results", []),
        failed_by_job={job: count for job, count in failed.items() if count},
        failed_last={job: run["runId"] for job, run in newest.items() if run["status"] == "FAILURE"},
        failed_checks=_failed_checks(data["assetNodes"]),
        heartbeat_seconds={
            one["daemonType"].lower(): max(0.0, seconds - (one["lastHeartbeatTime"] or 0)) for one in daemons
        },
        sensor_lag_seconds=_lags(running, seconds),
        never_ticked=[one["name"] for one in running if not one["sensorState"]["ticks"]],
        missed_ticks=_missed_ticks(schedules, (now - TICK_GRACE).timestamp()),
        stopped={name: kind for kind, name, state in states if state["status"] == "STOPPED"},
        failing={
            name: kind
            for kind, name, state in states
            if state["status"] == "RUNNING" and state["ticks"] and state["ticks"][0]["status"] == "FAILURE"
        },
        freshness={
            "/".join(node["assetKey"]["path"]): node["freshnessStatusInfo"]["freshnessStatus"].lower()
            for node in data["assetNodes"]
            if node["freshnessStatusInfo"] and node["freshnessStatusInfo"]["freshnessStatus"] != "NOT_APPLICABLE"
        },
    )


def launch(url: str, job: str, *, token: str = "", asked_by: str) -> str:
    """A run of `job` is queued; returns its id. `asked_by` becomes its tag `akosha/asked_by`.

    Raises:
        OrchestratorUnavailable: Dagster does not answer at `url`, or refused.
    """
    selector = {"repositoryLocationName": LOCATION, "repositoryName": REPOSITORY, "jobName": job}
    tags = [{"key": "akosha/asked_by", "value": asked_by}]
    params = {"selector": selector, "runConfigData": {}, "mode": "default", "executionMetadata": {"tags": tags}}
    answer = _post(url, token, LAUNCH, {"params": params})["launchRun"]
    if answer["__typename"] != "LaunchRunSuccess":
        raise OrchestratorUnavailable(url, f"{answer['__typename']}: {answer.get('message', '')}")
    return str(answer["run"]["runId"])


def _failed_checks(nodes: list[dict[str, Any]]) -> list[FailedCheck]:
    found = []
    for node in nodes:
        for check in node["assetChecksOrError"].get("checks", []):
            evaluation = (check["executionForLatestMaterialization"] or {}).get("evaluation")
            if evaluation and not evaluation["success"]:
                reason = evaluation["description"] or "see the check in Dagster"
                found.append(
                    FailedCheck("/".join(node["assetKey"]["path"]), check["name"], evaluation["severity"], reason)
                )
    return found


def _lags(running: list[dict[str, Any]], seconds: float) -> dict[str, float]:
    """By how many seconds the next tick of each running sensor is overdue."""
    lags = {}
    for one in running:
        if ticks := one["sensorState"]["ticks"]:
            lags[one["name"]] = max(0.0, seconds - ticks[0]["timestamp"] - (one["minIntervalSeconds"] or 30))
    return lags


def _missed_ticks(schedules: list[dict[str, Any]], before: float) -> dict[str, float]:
    """The last tick before `before` that each running schedule should have had and did not have."""
    missed = {}
    for one in schedules:
        state = one["scheduleState"]
        due = [at for at in one["potentialTickTimestamps"] if at <= before]
        started = (state["typeSpecificData"] or {}).get("startTimestamp")
        if state["status"] != "RUNNING" or not due or started is None:
            continue
        newest = state["ticks"][0]["timestamp"] if state["ticks"] else 0.0
        if max(due) > started and newest < max(due):
            missed[one["name"]] = max(due)
    return missed


def _post(url: str, token: str, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = {"query": query, "variables": variables}
    # Loading the certificates takes longer than the request, and http has none.
    is_https = url.startswith("https:")
    endpoint = f"{url.rstrip('/')}/graphql"
    try:
        answer = httpx.post(endpoint, json=request, headers=headers, timeout=TIMEOUT_SECONDS, verify=is_https)
        answer.raise_for_status()
        body = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise OrchestratorUnavailable(url, f"{type(error).__name__}: {error}") from error
    if body.get("errors"):
        raise OrchestratorUnavailable(url, str(body["errors"][0]["message"]))
    data: dict[str, Any] = body["data"]
    return data
