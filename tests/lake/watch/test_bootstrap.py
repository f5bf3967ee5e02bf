"""While the orchestrator is down, Akosha's schedules run and samples are buffered; then they are sent."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.watch import alerts, bootstrap, conditions
from tests.loopback import Reply, http_server

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Orchestrator:
    """Answers health probes while `is_up`, and keeps samples while it `takes_samples`."""

    def __init__(self) -> None:
        self.url, self.is_up, self.is_degraded, self.takes_samples = "", True, False, True
        self.samples: list[dict[str, object]] = []

    def answer(self, method: str, body: bytes) -> int | Reply:
        if method == "GET" and self.is_degraded:
            return Reply(503, b'{"status": "degraded", "service": "mahavishnu"}')
        if method == "GET":
            return 200 if self.is_up else 503
        if self.takes_samples:
            self.samples += json.loads(body)["samples"]
        return 200 if self.takes_samples else 500


@pytest.fixture
def orchestrator() -> Iterator[Orchestrator]:
    made = Orchestrator()
    with http_server(made.answer) as made.url:
        yield made


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


def test_ten_seconds_without_an_answer_begin_it_and_an_answer_ends_it(
    ledger: Ledger, orchestrator: Orchestrator
) -> None:
    conditions.evaluate(ledger, now=NOW)
    assert bootstrap.steps_back(ledger)
    orchestrator.is_up = False
    conditions.evaluate(ledger, now=NOW + 1 * SECOND)
    assert bootstrap.since(ledger) is None, "it may only have blinked"
    assert conditions.evaluate(ledger, now=NOW + 12 * SECOND) == ["orchestrator/mahavishnu"]
    assert not bootstrap.steps_back(ledger)
    for seconds in (22, 32, 33):
        assert conditions.evaluate(ledger, now=NOW + seconds * SECOND) == [], "said once"
    assert len(bootstrap.buffer_path(ledger.settings).read_text().splitlines()) == 3
    orchestrator.is_up = True
    conditions.evaluate(ledger, now=NOW + 40 * SECOND)
    assert bootstrap.steps_back(ledger)
    assert [sample["at"] for sample in orchestrator.samples] == [
        (NOW + seconds * SECOND).isoformat() for seconds in (12, 22, 32)
    ]
    assert not bootstrap.buffer_path(ledger.settings).exists()
    assert conditions.evaluate(ledger, now=NOW + 200 * SECOND) == ["orchestrator/mahavishnu"]
    assert alerts.list_alerts(ledger)[0].state == "resolved"


def test_a_degraded_orchestrator_neither_begins_nor_prolongs_it(ledger: Ledger, orchestrator: Orchestrator) -> None:
    orchestrator.is_degraded = True
    for seconds in (0, 12, 24):
        assert conditions.evaluate(ledger, now=NOW + seconds * SECOND) == []
    assert bootstrap.steps_back(ledger)
    orchestrator.is_degraded = orchestrator.is_up = False
    for seconds in (36, 48):
        conditions.evaluate(ledger, now=NOW + seconds * SECOND)
    assert not bootstrap.steps_back(ledger)
    assert "(last: HTTP 503 with no JSON)" in alerts.list_alerts(ledger)[0].detail
    orchestrator.is_degraded = True
    conditions.evaluate(ledger, now=NOW + 60 * SECOND)
    assert bootstrap.steps_back(ledger) and len(orchestrator.samples) == 1


def test_refused_samples_stay_buffered(ledger: Ledger, orchestrator: Orchestrator) -> None:
    orchestrator.is_up = orchestrator.takes_samples = False
    for seconds in (0, 11, 22):
        conditions.evaluate(ledger, now=NOW + seconds * SECOND)
    orchestrator.is_up = True
    conditions.evaluate(ledger, now=NOW + 30 * SECOND)
    assert len(bootstrap.buffer_path(ledger.settings).read_text().splitlines()) == 2
    orchestrator.takes_samples = True
    conditions.evaluate(ledger, now=NOW + 40 * SECOND)
    assert len(orchestrator.samples) == 2


def test_the_buffer_is_bounded_and_keeps_the_newest(ledger: Ledger, orchestrator: Orchestrator) -> None:
    orchestrator.is_up = False
    for number in range(60):
        conditions.evaluate(ledger, now=NOW + number * 11 * SECOND)
    path = bootstrap.buffer_path(ledger.settings)
    assert path.stat().st_size <= 8192
    assert json.loads(path.read_text().splitlines()[-1])["at"] == (NOW + 59 * 11 * SECOND).isoformat()


def test_without_an_orchestrator_nothing_ever_steps_back(tmp_path: Path) -> None:
    alone = Ledger.open(LakeSettings(home=tmp_path / "alone"))
    assert conditions.evaluate(alone, now=NOW) == []
    assert not bootstrap.steps_back(alone)
    alone.close()
