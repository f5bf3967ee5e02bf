"""`akosha status`: its output for an empty lake, and the health of the API."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from akosha_assets.cli.main import app
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings
from tests.api.conftest import serve as serve

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AKOSHA_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def other_server() -> Iterator[str]:
    """A server that is not Akosha and answers everything with a page."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def status(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["status", *arguments])
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def test_an_empty_lake_is_shown_with_the_commands_that_fill_it(home: Path) -> None:
    output = status("--url", NOBODY)
    assert "No table was written yet" in output and "akosha ingest --once" in output
    assert f"{NOBODY}: does not answer; start it with `akosha up`" in output
    assert f"home {home}" in output
    assert "The inbox folder does not exist; create it, or set AKOSHA_INBOX_URL" in output
    (home / "inbox").mkdir()
    assert "does not exist" not in status("--url", NOBODY)


def test_a_degraded_api_is_shown_with_its_reasons(home: Path, serve: Callable[..., httpx.Client]) -> None:
    url = str(serve(Lake(LakeSettings())).base_url)
    output = status("--url", url)
    assert ": degraded semantic search by words: " in output and "akosha model fetch" in output
    answer = json.loads(status("--url", url, "--json"))
    assert answer["api"]["health"] == "degraded" and len(answer["api"]["reasons"]) == 1


def test_another_program_on_the_port_is_recognised(home: Path, other_server: str) -> None:
    assert "another program than Akosha answers there" in status("--url", other_server)
