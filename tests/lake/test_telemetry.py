"""Log lines carry run and upload and no secrets; spans of every process are in the trace of the upload."""

import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from akosha_assets.lake import telemetry
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.arrivals import ingest
from akosha_assets.lake.ingestion.inbox.listing import sweep
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from tests.api.conftest import serve as serve
from tests.api.conftest import until
from tests.factories import make_upload
from tests.loopback import http_server


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[tuple[str, str, str]]]]:
    """Spans by trace id, as an OTLP collector receives them: name, id, parent's id."""
    traces: dict[str, list[tuple[str, str, str]]] = {}

    def collect(method: str, body: bytes) -> int:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    traces.setdefault(span.trace_id.hex(), []).append(
                        (span.name, span.span_id.hex(), span.parent_span_id.hex())
                    )
        return 200

    with http_server(collect) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        telemetry._provider.cache_clear()
        yield traces
        provider = telemetry._provider()
        assert provider is not None
        # The service still runs: without the address it creates no provider that would look for the collector.
        monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
        telemetry._provider.cache_clear()
        provider.shutdown()


def test_an_upload_has_one_trace_until_it_is_searchable_and_a_search_has_one(
    collector: dict[str, list[tuple[str, str, str]]], serve: Callable[..., httpx.Client], lake: Lake
) -> None:
    made = make_upload(lake.settings.home / "inbox", "laptop-1", conversations=["pip cannot resolve numpy"])
    client = serve(lake, alert_seconds=0.2)
    ledger = Ledger.open(lake.settings)
    sweep(lake.settings, ledger, now=datetime.now(UTC))
    ingest(lake, ledger, run_id="r")
    upload = ledger.uploads().uploads[0]
    ledger.close()
    until(lambda: client.post("/api/v1/search", json={"query": "numpy"}).json()["results"])
    caller = "0af7651916cd43dd8448eb211c80319c"
    client.post("/api/v1/search", json={"query": "numpy"}, headers={"traceparent": f"00-{caller}-b7ad6b7169203331-01"})
    of_upload = f"{telemetry.upload_trace_id('laptop-1', upload.upload_id):032x}"

    def names() -> set[str]:
        telemetry.flush()
        return {name for name, _, _ in collector.get(of_upload, [])}

    until(lambda: "become searchable" in names())
    assert {"upload", "wait", "take in", "extract", "commit", "ledger"} <= names()
    spans = {name: (itself, parent) for name, itself, parent in collector[of_upload]}
    assert spans["upload"][1] == ""
    assert spans["take in"][1] == spans["upload"][0]
    assert spans["extract"][1] == spans["take in"][0]
    found = {name: parent for name, _, parent in collector[caller]}
    assert found["search"] == "b7ad6b7169203331"
    assert {"semantic", "keyword"} <= set(found)
    assert made.upload_id in upload.upload_id


def test_json_lines_have_run_and_upload_and_mask_secrets(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    make_upload(lake.settings.home / "inbox", "laptop-1", conversations=["pip cannot resolve numpy"])
    ledger = Ledger.open(lake.settings)
    sweep(lake.settings, ledger, now=datetime.now(UTC))
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        telemetry.configure_logging("json")
        ingest(lake, ledger, run_id="run-7")
        logging.getLogger("x").warning(
            "cannot reach %s", "postgresql://akosha:hunter2@db/x?password=hunter3", extra={"sent": "Bearer abcdef123"}
        )
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        ledger.close()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (taken,) = [line for line in lines if line["message"] == "upload ingested"]
    assert (taken["run_id"], taken["upload_id"], taken["new_rows"]) == ("run-7", "20261120_120000_laptop-1", 1)
    hidden = lines[-1]
    assert hidden["message"] == "cannot reach postgresql://***@db/x?password=***"
    assert hidden["sent"] == "Bearer ***"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (
            "https://b.s3/x?X-Amz-Signature=abc&X-Amz-Credential=k/1",
            "https://b.s3/x?X-Amz-Signature=***&X-Amz-Credential=***",
        ),
        ("key AKIAABCDEFGHIJKLMNOP refused", "key *** refused"),
        ("slack://tokens:secret@/x", "slack://***@/x"),
        ("at 12:30:05 systems/a/uploads/b", "at 12:30:05 systems/a/uploads/b"),
    ],
)
def test_secrets_are_masked_and_nothing_else(text: str, masked: str) -> None:
    assert telemetry.mask_secrets(text) == masked


def test_a_repeated_failure_is_logged_when_its_cause_changes_or_time_has_passed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    warning = telemetry.RateLimitedWarning(logging.getLogger("test"), "could not follow")
    for cause in ("a", "a", "b", "b", "a"):
        warning.warn(cause)
    assert [record.cause for record in caplog.records] == ["a", "b", "a"]  # type: ignore[attr-defined]
    often = telemetry.RateLimitedWarning(logging.getLogger("test"), "could not follow", seconds=0)
    often.warn("a")
    often.warn("a")
    assert len(caplog.records) == 5
