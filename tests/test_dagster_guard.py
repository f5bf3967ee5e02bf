"""The guard of Dagster's webserver: it needs the token, refuses pages of other sites, and the UI works in a browser."""

import asyncio
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from dagster import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget

from akosha_assets import dagster_webserver
from akosha_assets.dagster_guard import DagsterGuard
from akosha_assets.dagster_webserver import config, create_app
from tests.api.conftest import until

TOKEN = "the-token-of-this-test"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
VERSION = {"query": "{ version }"}
WIPE = {"query": 'mutation { setConcurrencyLimit(concurrencyKey: "owned", limit: 7) }'}


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterInstance]:
    with DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as new_instance:
        yield new_instance


@contextmanager
def serving(instance: DagsterInstance) -> Iterator[str]:
    with WorkspaceProcessContext(instance, workspace_load_target=EmptyWorkspaceTarget(), version="1") as context:
        app = create_app(context, token=TOKEN, host="127.0.0.1", port=0)
        server = uvicorn.Server(config(app, host="127.0.0.1", port=0))
        thread = threading.Thread(target=server.run)
        thread.start()
        until(lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def url(instance: DagsterInstance) -> Iterator[str]:
    with serving(instance) as address:
        yield address


@pytest.fixture
def anonymous(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url) as client:
        yield client


@pytest.fixture
def session(url: str) -> Iterator[httpx.Client]:
    """A browser that opened the printed address."""
    with httpx.Client(base_url=url) as client:
        assert client.get("/asset-groups", params={"token": TOKEN}).status_code == 303
        yield client


def limits(instance: DagsterInstance) -> set[str]:
    return set(instance.event_log_storage.get_concurrency_keys())


def test_requests_without_the_token_are_refused(url: str, anonymous: httpx.Client) -> None:
    for path in (
        "/",
        "/asset-groups",
        "/server_info",
        "/dagit_info",
        "/graphql",
        "/logs/x/y.err",
        "/download_debug/x",
        "/index.html",
        "/x",
    ):
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            for headers in (
                {},
                {"Authorization": "Bearer wrong"},
                {"Cookie": "akosha_dagster_0=wrong"},
                {"Accept": "text/html"},
            ):
                answer = anonymous.request(method, path, headers=headers)
                assert answer.status_code in (401, 405, 415), (method, path, answer.status_code)
                assert "dagster" not in answer.text.replace("akosha_dagster", "").replace("AKOSHA_DAGSTER_TOKEN", "")
    assert httpx.get(url, params={"token": "wrong"}).status_code == 401


def test_a_program_authenticates_with_a_bearer_token(url: str) -> None:
    assert httpx.post(f"{url}/graphql", json=VERSION, headers=BEARER).json()["data"]["version"] == "1"
    assert "dagster_version" in httpx.get(f"{url}/server_info", headers=BEARER).json()


def test_the_printed_address_signs_in_and_removes_the_token_from_the_address(url: str) -> None:
    answer = httpx.get(f"{url}/runs/a%20b", params={"token": TOKEN, "q": "x y"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/a%20b?q=x+y")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and TOKEN not in cookie
    assert httpx.get(f"{url}//evil.example/", params={"token": TOKEN}).headers["location"] == "/evil.example/"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:8682"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/graphql"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_no_page_of_another_site_changes_anything(
    session: httpx.Client, instance: DagsterInstance, headers: dict[str, str], status: int
) -> None:
    for proof in ({}, BEARER):
        assert session.post("/graphql", json=WIPE, headers=headers | proof).status_code == status
    assert limits(instance) == set()


def test_a_mutation_in_a_get_or_in_the_query_string_is_refused(
    session: httpx.Client, instance: DagsterInstance
) -> None:
    navigation = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for headers in ({}, BEARER, {"Accept": "text/html"}, navigation, navigation | {"Accept": "*/*"}):
        for method in ("GET", "HEAD"):
            for path in ("/graphql", "/graphql/"):
                assert session.request(method, path, params=WIPE, headers=headers).status_code in (403, 405)
    assert session.post("/graphql", params=WIPE).status_code == 415
    assert (
        session.post("/graphql", params=WIPE, content=b"", headers={"Content-Type": "application/graphql"}).status_code
        == 415
    )
    assert limits(instance) == set()


def test_a_page_of_the_ui_may_send_mutations(session: httpx.Client, instance: DagsterInstance, url: str) -> None:
    own = {"Origin": url, "Sec-Fetch-Site": "same-origin"}
    assert session.post("/graphql", json=WIPE, headers=own).json()["data"] == {"setConcurrencyLimit": True}
    assert limits(instance) == {"owned"}
    instance.event_log_storage.delete_concurrency_limit("owned")


def test_a_web_socket_needs_the_token_and_the_same_origin(url: str, session: httpx.Client) -> None:
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus
    from websockets.typing import Subprotocol

    cookie = "; ".join(f"{name}={value}" for name, value in session.cookies.items())

    async def accepted(**headers: str) -> bool:
        try:
            async with connect(
                f"{url.replace('http', 'ws')}/graphql",
                subprotocols=[Subprotocol("graphql-ws")],
                additional_headers=headers,
            ) as socket:
                await socket.send('{"type": "connection_init"}')
                return "connection_ack" in str(await socket.recv())
        except InvalidStatus:
            return False

    assert asyncio.run(accepted(Origin=url, Cookie=cookie))
    assert asyncio.run(accepted(**BEARER))
    assert not asyncio.run(accepted())
    assert not asyncio.run(accepted(Origin=url))
    assert not asyncio.run(accepted(Cookie=cookie))
    assert not asyncio.run(accepted(Origin="https://evil.example", Cookie=cookie))
    assert not asyncio.run(accepted(Origin="https://evil.example", **BEARER))
    assert not asyncio.run(accepted(Host="evil.example", Origin="http://evil.example", Cookie=cookie))


def test_a_web_socket_stays_open_and_a_half_sent_head_times_out(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    from websockets.sync.client import connect

    monkeypatch.setattr(dagster_webserver, "HEAD_SECONDS", 0.3)
    with serving(instance) as short:
        port = int(short.rpartition(":")[2])
        options: dict[str, Any] = {"subprotocols": ["graphql-ws"], "additional_headers": BEARER}
        with connect(f"ws://127.0.0.1:{port}/graphql", **options) as web_socket:
            for _ in range(3):
                web_socket.send('{"type": "connection_init"}')
                assert "connection_ack" in str(web_socket.recv(timeout=10))
                with socket.create_connection(("127.0.0.1", port), timeout=10) as half:
                    half.sendall(b"GET / HTTP/1.1\r\n")
                    assert half.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_an_empty_token_is_never_accepted() -> None:
    async def ask() -> int:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def app(*_: Any) -> None:
            raise AssertionError("reached")

        async def receive() -> Any:
            raise AssertionError("nothing to read")

        guard = DagsterGuard(app, token="", host="127.0.0.1", port=1)
        headers = [(b"host", b"localhost"), (b"authorization", b"Bearer "), (b"cookie", f"{guard.cookie}=".encode())]
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"token=",
            "headers": headers,
        }
        await guard(scope, receive, send)
        return int(sent[0]["status"])

    assert asyncio.run(ask()) == 401


def test_the_ui_works_in_a_browser_once_the_printed_address_was_opened(url: str) -> None:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        context = browser.new_context()
        page = context.new_page()
        wrong: list[str] = []
        acknowledged: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "response", lambda answer: wrong.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None
        )
        page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: acknowledged.append(str(frame))))
        page.goto(url)
        assert "requires a token" in page.inner_text("h1")
        wrong.clear()
        page.goto(f"{url}/asset-groups?token={TOKEN}")
        page.wait_for_selector("text=Deployment", timeout=60_000)
        assert "token" not in page.url

        def is_acknowledged() -> bool:
            page.wait_for_timeout(20)
            return any("connection_ack" in frame for frame in acknowledged)

        until(is_acknowledged)
        assert wrong == []
        # Another site cannot frame the UI, although the browser has the cookie.
        other = context.new_page()
        other.set_content(f'<iframe src="{url}/runs"></iframe>')
        other.wait_for_timeout(300)
        assert [frame.url for frame in other.frames if frame.url.startswith(f"{url}/")] == []
        browser.close()


def test_the_webserver_refuses_to_start_without_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("AKOSHA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.argv", ["dagster_webserver", "-w", "none.yaml"])
    with pytest.raises(SystemExit, match="set it"):
        dagster_webserver.main()
