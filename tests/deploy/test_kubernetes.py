"""The manifests match the Kubernetes schemas, use metrics that exist, and leave time for a drain."""

import os
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from akosha_api import metrics as api_metrics
from akosha_api.settings import ApiSettings
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.watch import metrics as lake_metrics

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
# Fields of KEDA's own kind beside the job template, from its documentation: name, type.
SCALED_JOB = {
    "jobTargetRef": dict,
    "triggers": list,
    "pollingInterval": int,
    "minReplicaCount": int,
    "maxReplicaCount": int,
    "successfulJobsHistoryLimit": int,
    "failedJobsHistoryLimit": int,
    "rollout": dict,
    "scalingStrategy": dict,
}


def manifests() -> list[dict[str, Any]]:
    return [one for path in sorted(FOLDER.glob("*.yaml")) for one in yaml.safe_load_all(path.read_text())]


@pytest.mark.parametrize("manifest", manifests(), ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_every_manifest_matches_its_schema(manifest: dict[str, Any]) -> None:
    if manifest["kind"] == "ScaledJob":
        spec = manifest["spec"]
        assert {name: type(value) for name, value in spec.items()}.items() <= SCALED_JOB.items()
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": manifest["metadata"], "spec": spec["jobTargetRef"]}
        for trigger in spec["triggers"]:
            assert trigger["type"] == "prometheus"
            assert all(isinstance(value, str) for value in trigger["metadata"].values()), "KEDA takes strings only"
            assert {"serverAddress", "query", "threshold"} <= set(trigger["metadata"])
        manifest = job
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_the_schema_check_detects_a_mistake() -> None:
    hpa = next(one for one in manifests() if one["kind"] == "HorizontalPodAutoscaler")
    broken = {**hpa, "spec": {**hpa["spec"], "maxReplica": 3}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


def test_scaling_uses_metrics_that_exist() -> None:
    text = "\n".join(path.read_text() for path in FOLDER.glob("*.yaml"))
    metrics = set(re.findall(r"\bakosha_[a-z_]+", text)) - {"akosha_api"}
    renamed = set(re.findall(r'as: "(\w+)"', text))
    assert metrics - renamed <= set(lake_metrics.METRICS) | set(api_metrics.METRICS)
    assert "akosha_ingestion_backlog_count" in metrics


def test_a_pod_lives_long_enough_to_drain() -> None:
    by_kind = {one["kind"]: one.get("spec", {}) for one in manifests()}
    api = by_kind["Deployment"]["template"]["spec"]
    pause = int(re.findall(r"sleep (\d+)", api["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1])[0])
    assert api["terminationGracePeriodSeconds"] > pause + ApiSettings().drain_seconds
    assert (
        by_kind["ScaledJob"]["jobTargetRef"]["template"]["spec"]["terminationGracePeriodSeconds"]
        > LakeSettings().drain_seconds
    )


def test_the_pre_stop_hook_starts_the_drain(tmp_path: Path) -> None:
    deployment = next(one for one in manifests() if one["kind"] == "Deployment")
    command = deployment["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
    drained: list[str] = []

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            drained.append(f"{self.path} {self.headers['Authorization']}")
            self.send_response(202)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    (tmp_path / "operator-token").write_text("of-the-home\n")
    with HTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        program = (
            command.replace("sleep 5", "true")
            .replace("8682", str(server.server_port))
            .replace("/var/lib/akosha", str(tmp_path))
        )
        for token in ({}, {"AKOSHA_API_ADMIN_TOKEN": "of-the-settings"}):
            subprocess.run(["sh", "-c", program], env={**os.environ, **token}, check=True, timeout=60)
        server.shutdown()
        thread.join()
    assert drained == [f"/api/v1/shutdown Bearer {token}" for token in ("of-the-home", "of-the-settings")]
