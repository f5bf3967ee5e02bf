"""The commands: their output, their JSON and their exit codes."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from akosha_assets.cli.main import app
from akosha_assets.cli.output import format_value
from akosha_assets.lake.ingestion.inbox.listing import sweep
from akosha_assets.lake.ingestion.ledger import claims
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.settings import LakeSettings
from tests.factories import make_upload

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AKOSHA_HOME", str(tmp_path))
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def answer(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def test_ingest_ingests_the_inbox_and_status_and_uploads_show_it(home: Path) -> None:
    make_upload(home / "inbox", "laptop-ada", reflections=["a lesson", "another"], conversations=["a question"])
    ingested = answer("ingest", "--once")
    assert ingested["found"] == 1 and ingested["uploads"] == {"ingested": 1} and ingested["waiting"] == 0
    assert ingested["rows"]["lifecycle/hot"] == 3

    again = answer("ingest", "--once")
    assert again["found"] == 0 and again["batches"] == 0

    status = answer("status", "--url", NOBODY)
    assert status["backlog"]["ingested"] == 1 and status["tables"]["lifecycle/hot"]["rows"] == 3
    assert status["api"]["health"] is None

    listed = answer("uploads", "--system", "laptop-ada")
    assert [(one["state"], one["new_rows"]) for one in listed["uploads"]] == [("ingested", 3)]
    assert answer("uploads", "--state", "quarantined")["uploads"] == []


def test_the_tables_of_uploads_and_status_name_uploads_and_tables(home: Path) -> None:
    uploaded = make_upload(home / "inbox", "laptop-ada", reflections=["a lesson"])
    assert run("ingest", "--once").exit_code == 0
    assert uploaded.upload_id in run("uploads").stdout
    shown = run("status", "--url", NOBODY).stdout
    assert "lifecycle/hot" in shown and "does not answer" in shown


def test_ingest_counts_the_uploads_that_another_run_holds(home: Path) -> None:
    make_upload(home / "inbox", "laptop-ada", reflections=["a lesson"])
    ledger = Ledger.open(LakeSettings())
    sweep(ledger.settings, ledger, now=datetime.now(UTC))
    claims.claim(ledger, run_id="another", now=datetime.now(UTC))
    ledger.close()
    ingested = answer("ingest", "--once")
    assert (ingested["batches"], ingested["waiting"], ingested["held"]) == (0, 1, 1)
    shown = run("ingest", "--once").stdout.replace("\n", " ")
    assert "No waiting upload could be claimed" in shown and "1 of them are claimed by another run" in shown


def test_untrusted_names_are_printed_without_interpretation(home: Path) -> None:
    inbox = home / "inbox" / "systems"
    for system, upload in (("[", "]"), ("a", "[bold]u"), ("b", ":bug:\x1b[31m")):
        (inbox / system / "uploads" / upload).mkdir(parents=True)
        (inbox / system / "uploads" / upload / "manifest.json").write_text("[")
    assert answer("ingest", "--once")["found"] == 3
    shown = run("uploads")
    assert shown.exit_code == 0
    assert "systems/[/uploads/]" in shown.stdout and "[bold]u" in shown.stdout
    assert ":bug:\\x1b[31m" in shown.stdout and "\x1b" not in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["search", "anything", "--url", NOBODY], 3, "Start it with `akosha up`"),
        (["uploads", "--state", "lost"], 2, "'lost' is not one of 'arriving'"),
        (["ingest"], 2, "--once is missing"),
        (["search"], 2, "Missing argument"),
        (["up", "--api-port", "70000"], 2, "Usage"),
    ],
)
def test_the_exit_code_is_that_of_the_kind_of_failure(
    home: Path, arguments: list[str], code: int, message: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    assert message in result.stderr.replace("\n", " ")


def test_a_small_number_is_formatted_with_three_digits() -> None:
    assert [format_value(value) for value in (0.9975, 1.52, 6.7, 22.64, 1721.106)] == [
        "0.998",
        "1.52",
        "6.7",
        "22.6",
        "1,721.1",
    ]
