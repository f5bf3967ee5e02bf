"""The status page and `/docs` in a real browser: numbers, search, hostile text, no requests to other hosts."""

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.arrivals import ingest
from akosha_assets.lake.ingestion.inbox.listing import sweep
from akosha_assets.lake.ingestion.ledger.found_uploads import FoundUpload
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from tests.api.conftest import until
from tests.factories import make_upload

HOSTILE = (
    "pip cannot resolve numpy <img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
)


@pytest.fixture
def browser() -> Iterator[Any]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


def test_an_operator_sees_the_fleet_and_searches_it(
    browser: Any, serve: Callable[..., httpx.Client], lake: Lake
) -> None:
    for number in range(3):
        make_upload(
            lake.settings.home / "inbox",
            f"laptop-{number}",
            conversations=[f"{HOSTILE} {number}", "Redis evicts too early"],
        )
    ledger = Ledger.open(lake.settings)
    sweep(lake.settings, ledger, now=datetime.now(UTC))
    ingest(lake, ledger, run_id="r")
    ledger.add(
        [FoundUpload("s", "not-yet", "session-buddy", "p", "1", 10, datetime.now(UTC))],
        found_by="listing",
        now=datetime.now(UTC),
    )
    ledger.close()
    client = serve(lake)
    until(lambda: client.post("/api/v1/search", json={"query": "numpy"}).json()["results"])
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    requested: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(str(client.base_url))
    page.wait_for_selector("#uploads tr")
    assert page.inner_text(".number:first-child b") == "1"
    assert page.locator("#uploads tr").count() == 4
    assert page.locator("#tiers .tier").first.inner_text().startswith("hot")
    assert page.locator("#chart path").count() == 2
    page.fill("input[type=search]", "numpy")
    page.press("input[type=search]", "Enter")
    page.wait_for_selector(".result")
    assert page.locator(".result").count() == 3
    assert "<script>" in page.inner_text(".result p")
    assert page.title() == "Akosha"
    assert wrong == []
    assert {url.split("/")[2] for url in requested if not url.startswith("data:")} == {
        f"127.0.0.1:{client.base_url.port}"
    }
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/status.png", full_page=True)


def test_docs_load_nothing_from_other_hosts(browser: Any, serve: Callable[..., httpx.Client], lake: Lake) -> None:
    client = serve(lake, wait=False)
    page = browser.new_page()
    requested: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"{client.base_url}/docs".replace("//docs", "/docs"))
    page.set_default_timeout(20_000)
    page.locator("[data-path='/api/v1/search/batch']").wait_for()
    health = page.locator(".opblock").filter(has=page.locator("[data-path='/health']"))
    health.locator(".opblock-summary-control").click()
    health.get_by_role("button", name="Try it out").click()
    health.get_by_role("button", name="Execute").click()
    health.locator(".live-responses-table .response-col_status", has_text="200").first.wait_for()
    assert wrong == []
    assert {url.split("/")[2] for url in requested if not url.startswith("data:")} == {
        f"127.0.0.1:{client.base_url.port}"
    }
    for path in ("/redoc", "/docs/oauth2-redirect", "/docs/index.html"):
        assert client.get(path).status_code == 404
