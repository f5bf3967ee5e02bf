"""No route answers pages of other sites, and operator routes answer no caller without the token."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import BaseRoute

from akosha_api import operator_check
from akosha_api.app import create_app
from akosha_api.settings import ApiSettings
from akosha_assets.lake import operator_token
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings
from tests.api.conftest import until

REBOUND = {"Host": "evil.example:8682", "Origin": "http://evil.example:8682", "Sec-Fetch-Site": "same-origin"}
HOSTILE: dict[str, tuple[dict[str, str], int]] = {
    "rebound name": (REBOUND, 421),
    "rebound name without origin": ({"Host": "evil.example"}, 421),
    "any address": ({"Host": "0.0.0.0:8682"}, 421),
    "simple request": (
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"},
        403,
    ),
    "no fetch metadata": ({"Origin": "https://evil.example"}, 403),
    "sandboxed frame": ({"Origin": "null"}, 403),
    "another port of this machine": ({"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}, 403),
    "image of another site": (
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        403,
    ),
    "frame of another site": (
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        403,
    ),
}
LIKE_NGINX = {"Connection": "close"}
OPERATOR = {"/api/v1/shutdown", "/api/v1/ingestion/trigger", "/api/v1/uploads/redrive"}


def registered(routes: list[BaseRoute]) -> list[tuple[str, str]]:
    """Every method and path that the service has, with `x` in place of parameters."""
    found = []
    for route in routes:
        if (included := getattr(route, "original_router", None)) is not None:
            found += registered(included.routes)
            continue
        path: str = getattr(route, "path", "")
        for method in sorted(getattr(route, "methods", None) or {"GET"}):
            found.append((method, re.sub(r"\{[^}]*\}", "x", path) or "/"))
    return found


ROUTES = registered(create_app(LakeSettings(), ApiSettings()).router.routes)


def refused(answer: httpx.Response, status: int) -> bool:
    return (answer.status_code, answer.headers.get("content-type")) == (status, "application/problem+json")


@pytest.fixture
def client(serve: Callable[..., httpx.Client], lake: Lake) -> httpx.Client:
    return serve(lake, wait=False)


def test_no_route_answers_requests_caused_by_another_site(client: httpx.Client, lake: Lake) -> None:
    assert {path for _, path in ROUTES} >= {
        "/",
        "/docs",
        "/metrics",
        "/health",
        "/mcp",
        "/openapi.json",
        "/api/v1/search",
    } | OPERATOR
    token = {"Authorization": f"Bearer {operator_token.read(lake.settings.home)}"}
    for method, path in [*ROUTES, ("GET", "/no-such-route")]:
        for case, (headers, status) in HOSTILE.items():
            answer = client.request(method, path, headers=headers | token)
            assert answer.status_code == status, f"{case}: {method} {path} answered {answer.status_code}"
            assert method == "HEAD" or answer.json()["status"] == status


def test_a_body_must_be_declared_as_json(client: httpx.Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        for method, path in ROUTES:
            answer = client.request(method, path, content=b'{"query": "a"}', headers={"Content-Type": kind})
            assert answer.status_code == 415, f"{kind}: {method} {path} answered {answer.status_code}"
    refusal = client.post("/api/v1/search", content=b"{}", headers={"Content-Type": "text/plain"})
    assert (
        refusal.json()["detail"]
        == "found a body with Content-Type 'text/plain'; expected Content-Type: application/json"
    )


def test_refusals_name_what_was_found_and_what_to_do(client: httpx.Client) -> None:
    detail = client.get("/api/v1/systems", headers={"Host": "akosha.example"}).json()["detail"]
    assert detail.startswith("found Host 'akosha.example'; expected one of localhost")
    assert detail.endswith("AKOSHA_API_ALLOWED_HOSTS adds names")
    detail = client.get("/api/v1/systems", headers={"Origin": "https://akosha.example"}).json()["detail"]
    assert "found Origin 'https://akosha.example'" in detail and "AKOSHA_API_ALLOWED_ORIGINS" in detail


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer"}, {"X-Forwarded-For": "127.0.0.1"}]
)
def test_a_loopback_address_is_not_an_operator(client: httpx.Client, headers: dict[str, str]) -> None:
    for path in OPERATOR:
        refusal = client.post(path, json={"reason": "gzip_damaged"}, headers=LIKE_NGINX | headers)
        assert refused(refusal, 403), path
        assert "AKOSHA_HOME/operator-token" in refusal.json()["detail"]


def test_the_token_of_the_home_is_accepted_behind_a_plain_proxy(client: httpx.Client, lake: Lake) -> None:
    token = {"Authorization": f"Bearer {operator_token.read(lake.settings.home)}"}
    assert (
        client.post("/api/v1/uploads/redrive", json={"reason": "gzip_damaged"}, headers=LIKE_NGINX | token).status_code
        == 200
    )


def test_operator_routes_open_once_the_token_can_be_stored(
    serve: Callable[..., httpx.Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator_check, "RETRY_SECONDS", 0.05)
    lake = Lake(LakeSettings(home=tmp_path / "home"))
    obstacle = operator_token.path(lake.settings.home) / "not-a-file"
    obstacle.mkdir(parents=True)
    client = serve(lake, wait=False)

    def redrive() -> httpx.Response:
        token = {"Authorization": f"Bearer {operator_token.read(lake.settings.home) or 'none-yet'}"}
        return client.post("/api/v1/uploads/redrive", json={"upload_id": "x"}, headers=token)

    refusal = redrive()
    assert refused(refusal, 403) and "could not be stored" in refusal.json()["detail"]
    obstacle.rmdir()
    obstacle.parent.rmdir()
    until(lambda: redrive().status_code == 200)
    assert [file.name for file in lake.settings.home.glob(f"{operator_token.NAME}*")] == [operator_token.NAME]


def test_a_token_of_the_settings_replaces_that_of_the_home(serve: Callable[..., httpx.Client], lake: Lake) -> None:
    client = serve(lake, wait=False, admin_token="a-token-of-our-own")
    operator_token.read_or_create(lake.settings.home)
    for token, status in (("a-token-of-our-own", 200), (operator_token.read(lake.settings.home), 403)):
        answer = client.post(
            "/api/v1/uploads/redrive", json={"upload_id": "x"}, headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == status


def test_probes_are_answered_by_address(client: httpx.Client) -> None:
    for path in ("/health", "/ready", "/metrics"):
        assert client.get(path, headers={"Host": "10.42.0.7:8682"}).status_code in (200, 503)
        assert client.get(path, headers={"Host": "[fd00::7]:8682"}).status_code in (200, 503)
    assert client.get("/api/v1/systems", headers={"Host": "10.42.0.7:8682"}).status_code == 421


def test_allowed_hosts_and_origins_are_accepted_behind_a_proxy(serve: Callable[..., httpx.Client], lake: Lake) -> None:
    client = serve(
        lake, wait=False, host="0.0.0.0", allowed_hosts="akosha.example,*.svc", allowed_origins="https://search.example"
    )
    for host, origin, status in (
        ("akosha.example", "https://akosha.example", 200),
        ("akosha-api.default.svc:8682", "https://search.example", 200),
        ("127.0.0.1:8682", "https://search.example", 200),
        ("akosha.example", "https://elsewhere.example", 403),
        ("elsewhere.example", "https://search.example", 421),
    ):
        answer = client.get(
            "/api/v1/systems", headers={"Host": host, "Origin": origin, "Sec-Fetch-Site": "same-origin"}
        )
        assert answer.status_code == status, (host, origin)


def test_every_answer_has_security_headers(client: httpx.Client) -> None:
    for method, path in [*ROUTES, ("GET", "/no-such-route")]:
        headers = client.request(
            method, path, headers={"Host": "evil.example"} if path == "/api/v1/shutdown" else {}
        ).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"], path
        assert "default-src 'none'" in headers["content-security-policy"], path
        found = (headers["x-content-type-options"], headers["referrer-policy"], headers["cross-origin-resource-policy"])
        assert found == ("nosniff", "no-referrer", "same-origin"), path


def test_an_unexpected_error_is_a_problem_document(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("<script>")

    monkeypatch.setattr("akosha_api.routes.alerts.alerts.list_alerts", broken)
    answer = client.get("/api/v1/alerts", headers={"X-Request-Id": "mine"})
    assert refused(answer, 500) and answer.json()["request_id"] == answer.headers["x-request-id"] == "mine"
    assert (answer.headers["x-content-type-options"], "script" in answer.text) == ("nosniff", False)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "a request raised an unexpected error"
    ]


def test_web_sockets_are_refused(client: httpx.Client) -> None:
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus

    async def ask(path: str, **options: Any) -> None:
        async with connect(f"ws://127.0.0.1:{client.base_url.port}{path}", **options):
            pass

    for path in ("/", "/mcp", "/api/v1/search"):
        with pytest.raises(InvalidStatus):
            asyncio.run(ask(path))
