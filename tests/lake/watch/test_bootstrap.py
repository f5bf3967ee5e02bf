"""While the orchestrator is silent Akosha works by itself and keeps samples; afterwards they are sent and it steps back."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from akosha_assets.lake.ingestion.ledger import Ledger
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.watch import alerts, bootstrap, conditions

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Orchestrator:
    """Answers health probes and takes samples while `is_up`."""

    def __init__(self) -> None:
        self.is_up, self.takes_samples = True, True
        self.samples: list[dict[str, object]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if outer.is_up else 503)
                self.end_headers()

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200 if outer.takes_samples else 500)
                self.end_headers()
                if outer.takes_samples:
                    outer.samples += body["samples"]

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def orchestrator() -> Iterator[Orchestrator]:
    made = Orchestrator()
    yield made
    made.close()


@pytest.fixture
def ledger(tmp_path: Path, orchestrator: Orchestrator) -> Iterator[Ledger]:
    opened = Ledger.open(
        LakeSettings(
            home=tmp_path,
            mahavishnu_url=orchestrator.url,
            mahavishnu_schedules=True,
            mahavishnu_metrics_url=f"{orchestrator.url}/samples",
            mahavishnu_buffer_bytes=8192,
        )
    )
    yield opened
    opened.close()


def test_ten_silent_seconds_begin_it_and_an_answer_ends_it(ledger: Ledger, orchestrator: Orchestrator) -> None:
    conditions.look(ledger, now=NOW)
    assert bootstrap.steps_back(ledger)
    orchestrator.is_up = False
    conditions.look(ledger, now=NOW + 1 * SECOND)
    assert bootstrap.since(ledger) is None, "it may only have blinked"
    assert conditions.look(ledger, now=NOW + 12 * SECOND) == ["orchestrator/mahavishnu"]
    assert not bootstrap.steps_back(ledger)
    for seconds in (22, 32, 33):
        assert conditions.look(ledger, now=NOW + seconds * SECOND) == [], "said once"
    assert len(bootstrap.buffer(ledger.settings).read_text().splitlines()) == 3
    orchestrator.is_up = True
    conditions.look(ledger, now=NOW + 40 * SECOND)
    assert bootstrap.steps_back(ledger)
    assert [sample["at"] for sample in orchestrator.samples] == [(NOW + seconds * SECOND).isoformat() for seconds in (12, 22, 32)]
    assert not bootstrap.buffer(ledger.settings).exists()
    assert conditions.look(ledger, now=NOW + 200 * SECOND) == ["orchestrator/mahavishnu"]
    assert alerts.listed(ledger)[0].state == "resolved"


def test_samples_that_are_refused_wait_on(ledger: Ledger, orchestrator: Orchestrator) -> None:
    orchestrator.is_up = orchestrator.takes_samples = False
    for seconds in (0, 11, 22):
        conditions.look(ledger, now=NOW + seconds * SECOND)
    orchestrator.is_up = True
    conditions.look(ledger, now=NOW + 30 * SECOND)
    assert len(bootstrap.buffer(ledger.settings).read_text().splitlines()) == 2
    orchestrator.takes_samples = True
    conditions.look(ledger, now=NOW + 40 * SECOND)
    assert len(orchestrator.samples) == 2


def test_the_buffer_is_bounded_and_keeps_the_newest(ledger: Ledger, orchestrator: Orchestrator) -> None:
    orchestrator.is_up = False
    for number in range(60):
        conditions.look(ledger, now=NOW + number * 11 * SECOND)
    path = bootstrap.buffer(ledger.settings)
    assert path.stat().st_size <= 8192
    assert json.loads(path.read_text().splitlines()[-1])["at"] == (NOW + 59 * 11 * SECOND).isoformat()


def test_without_an_orchestrator_nothing_ever_steps_back(tmp_path: Path) -> None:
    alone = Ledger.open(LakeSettings(home=tmp_path / "alone"))
    assert conditions.look(alone, now=NOW) == []
    assert not bootstrap.steps_back(alone)
    alone.close()
