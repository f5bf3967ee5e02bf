"""Dagster as seen over its GraphQL interface: its queue, daemons, sensors and runs; and asking it to start a run.

Needs nothing of Dagster but the address of its webserver, so the service can ask while it knows nothing of assets.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx

from akosha_assets.lake.errors import OrchestratorUnavailable

LOCATION, REPOSITORY = "akosha", "__repository__"
TIMEOUT_SECONDS = 5.0
FAILURES_WITHIN = timedelta(days=1)

STATE = """
query State($failedAfter: Float!) {
  instance { daemonHealth { allDaemonStatuses { daemonType required healthy lastHeartbeatTime } } }
  queued: runsOrError(filter: {statuses: [QUEUED]}, limit: 500) { ... on Runs { results { runId creationTime } } }
  active: runsOrError(filter: {statuses: [STARTING, STARTED, CANCELING]}, limit: 500) { ... on Runs { results { runId jobName } } }
  ended: runsOrError(filter: {statuses: [SUCCESS, FAILURE], createdAfter: $failedAfter}, limit: 500) {
    ... on Runs { results { runId jobName status } }
  }
  sensorsOrError(repositorySelector: {repositoryLocationName: "akosha", repositoryName: "__repository__"}) {
    ... on Sensors { results { name minIntervalSeconds sensorState { status ticks(limit: 1) { timestamp status } } } }
  }
  schedulesOrError(repositorySelector: {repositoryLocationName: "akosha", repositoryName: "__repository__"}) {
    ... on Schedules { results { name scheduleState { status ticks(limit: 1) { timestamp status } } } }
  }
  assetNodes {
    assetKey { path }
    freshnessStatusInfo { freshnessStatus }
    assetChecksOrError {
      ... on AssetChecks { checks { name executionForLatestMaterialization { evaluation { severity success description } } } }
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
    """An asset check whose newest evaluation failed."""

    asset: str
    name: str
    severity: str
    reason: str


@dataclass(frozen=True)
class Orchestration:
    """Dagster at one instant. Ages are in seconds; freshness is healthy, warning, degraded or unknown by asset."""

    queued: int = 0
    oldest_queued_seconds: float = 0.0
    active: list[dict[str, str]] = field(default_factory=list)
    failed_by_job: dict[str, int] = field(default_factory=dict)
    # Jobs whose newest ended run failed, with its id.
    failed_last: dict[str, str] = field(default_factory=dict)
    failed_checks: list[FailedCheck] = field(default_factory=list)
    heartbeat_seconds: dict[str, float] = field(default_factory=dict)
    sensor_lag_seconds: dict[str, float] = field(default_factory=dict)
    # Sensors and schedules that are switched off, and those whose newest tick failed, with the kind of each.
    stopped: dict[str, str] = field(default_factory=dict)
    failing: dict[str, str] = field(default_factory=dict)
    freshness: dict[str, str] = field(default_factory=dict)


def read(url: str, *, token: str = "", now: datetime) -> Orchestration:
    """Dagster's state at `now`; `token` is sent as bearer token, unless it is empty.

    Raises:
        OrchestratorUnavailable: it does not answer at `url`.
    """
    data = _ask(url, token, STATE, {"failedAfter": (now - FAILURES_WITHIN).timestamp()})
    seconds = now.timestamp()
    queued = data["queued"].get("results", [])
    failed: dict[str, int] = {}
    newest: dict[str, dict[str, str]] = {}
    for run in data["ended"].get("results", []):
        failed[run["jobName"]] = failed.get(run["jobName"], 0) + (run["status"] == "FAILURE")
        newest.setdefault(run["jobName"], run)
    daemons = [one for one in data["instance"]["daemonHealth"]["allDaemonStatuses"] if one["required"]]
    instigators = [
        *(("sensor", one["name"], one["sensorState"]) for one in data["sensorsOrError"].get("results", [])),
        *(("schedule", one["name"], one["scheduleState"]) for one in data["schedulesOrError"].get("results", [])),
    ]
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
        sensor_lag_seconds=_lags(data["sensorsOrError"].get("results", []), seconds),
        stopped={name: kind for kind, name, state in instigators if state["status"] == "STOPPED"},
        failing={
            name: kind
            for kind, name, state in instigators
            if state["ticks"] and state["ticks"][0]["status"] == "FAILURE"
        },
        freshness={
            "/".join(node["assetKey"]["path"]): node["freshnessStatusInfo"]["freshnessStatus"].lower()
            for node in data["assetNodes"]
            if node["freshnessStatusInfo"] and node["freshnessStatusInfo"]["freshnessStatus"] != "NOT_APPLICABLE"
        },
    )


def launch(url: str, job: str, *, token: str = "", asked_by: str) -> str:
    """A run of `job` is queued; returns its id.

    Raises:
        OrchestratorUnavailable: Dagster does not answer at `url`, or refused.
    """
    selector = {"repositoryLocationName": LOCATION, "repositoryName": REPOSITORY, "jobName": job}
    tags = [{"key": "akosha/asked_by", "value": asked_by}]
    params = {"selector": selector, "runConfigData": {}, "mode": "default", "executionMetadata": {"tags": tags}}
    answer = _ask(url, token, LAUNCH, {"params": params})["launchRun"]
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


def _lags(sensors: list[dict[str, Any]], seconds: float) -> dict[str, float]:
    """How much later than its interval each running sensor last ticked."""
    lags = {}
    for one in sensors:
        state = one["sensorState"]
        if state["status"] == "RUNNING" and state["ticks"]:
            lags[one["name"]] = max(0.0, seconds - state["ticks"][0]["timestamp"] - (one["minIntervalSeconds"] or 30))
    return lags


def _ask(url: str, token: str, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    question = {"query": query, "variables": variables}
    try:
        answer = httpx.post(f"{url.rstrip('/')}/graphql", json=question, headers=headers, timeout=TIMEOUT_SECONDS)
        answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OrchestratorUnavailable(url, f"{type(error).__name__}: {error}") from error
    body = answer.json()
    if body.get("errors"):
        raise OrchestratorUnavailable(url, str(body["errors"][0]["message"]))
    data: dict[str, Any] = body["data"]
    return data
