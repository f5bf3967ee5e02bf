"""Every documented metric exists once it has a value, and no label names a system."""

from collections.abc import Callable
from datetime import UTC, datetime

import httpx
from prometheus_client.parser import text_string_to_metric_families

from akosha_api import metrics as api_metrics
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.arrivals import ingest
from akosha_assets.lake.ingestion.inbox.listing import sweep
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.watch import metrics as lake_metrics
from tests.api.conftest import until
from tests.factories import make_upload
from tests.hot_rows import commit, memory

# These exist only with Dagster or with alerts; the tests of both check them.
ELSEWHERE = ("akosha_dagster_", "akosha_alerts_")
ON_OCCASION = {"akosha_search_incomplete", "akosha_search_recall_ratio"}


def scraped(client: httpx.Client) -> dict[str, list[tuple[dict[str, str], float]]]:
    families: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(client.get("/metrics").raise_for_status().text):
        families[family.name] = [(sample.labels, sample.value) for sample in family.samples]
    return families


def test_metrics_follow_an_upload_to_a_search(serve: Callable[..., httpx.Client], lake: Lake) -> None:
    make_upload(lake.settings.home / "inbox", "laptop-1", conversations=["pip cannot resolve numpy"])
    ledger = Ledger.open(lake.settings)
    sweep(lake.settings, ledger, now=datetime.now(UTC))
    client = serve(lake)
    before = scraped(client)
    assert before["akosha_ingestion_backlog_count"] == [({}, 1)]
    ingest(lake, ledger, run_id="r")
    ledger.close()
    until(lambda: client.post("/api/v1/search", json={"query": "numpy"}).json()["results"])
    after = scraped(client)
    assert ({"tier": "hot"}, 1) in after["akosha_replica_rows"]
    names = set(after)
    declared = {
        name.removesuffix("_total")
        for name in {**lake_metrics.METRICS, **api_metrics.METRICS}
        if not name.startswith(ELSEWHERE)
    }
    assert declared - ON_OCCASION <= names
    ours = {name for name in names if name.startswith("akosha_")}
    assert ours <= {name.removesuffix("_total") for name in {**lake_metrics.METRICS, **api_metrics.METRICS}}
    stages = {labels["stage"] for labels, _ in after["akosha_search_stage_seconds"]}
    assert "keyword" in stages
    assert "laptop-1" not in client.get("/metrics").text


def test_unknown_paths_create_no_series(serve: Callable[..., httpx.Client], lake: Lake) -> None:
    client = serve(lake)
    for number in range(5):
        client.get(f"/no/such/{number}")
    routes = {labels["route"] for labels, _ in scraped(client)["akosha_http_requests"]}
    assert "unknown" in routes
    assert not any("no/such" in route for route in routes)


def test_the_recall_of_served_rows_is_measured(serve: Callable[..., httpx.Client], lake: Lake) -> None:
    commit(lake, 1, *(memory(str(number), f"memory number {number}") for number in range(30)))
    client = serve(lake, recall_seconds=0.1)
    until(lambda: scraped(client).get("akosha_search_recall_ratio") == [({}, 1)])
