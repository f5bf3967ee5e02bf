"""`akosha search` against a real service: what a person sees of what was found, and of what is lacking."""

import json
import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import httpx
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from akosha_assets.cli import answer
from akosha_assets.cli.main import app
from akosha_assets.cli.search import when
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings
from tests.api.conftest import serve as serve
from tests.api.conftest import until
from tests.hot_rows import NOW, colder, commit, memory

LOREM = "lorem ipsum dolor sit amet " * 40
HOSTILE = "[bold]zebra\x1b[31m \n\n  $(touch gone)"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    made = Lake(LakeSettings(home=tmp_path_factory.mktemp("akosha")))
    commit(
        made,
        1,
        memory("long", f"{LOREM} the needleattheend of it, {LOREM}", project=None),
        *(
            memory(f"copy-{number}", "kubernetes oomkilled", system=f"laptop-{number}", tags=["ops"])
            for number in range(7)
        ),
        memory("old", "postgres deadlock", age=timedelta(days=3), project="orders"),
        memory("$(touch gone)", HOSTILE, system="\x1b]0;x\x07", project="[red]\nid fake"),
    )
    colder(made, 1, "warm", memory("aged", "ancient certificate", age=timedelta(days=30)))
    return made


@pytest.fixture(scope="module")
def url(serve: Callable[..., httpx.Client], lake: Lake) -> str:
    client = serve(lake)
    until(lambda: client.get("/health").json()["is_settled"])
    return str(client.base_url)


def asked(url: str, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["search", *arguments, "--url", url])
    assert result.exit_code == 0, result.output
    return result.stdout


def by_words(url: str, *arguments: str) -> str:
    return asked(url, *arguments, "--mode", "keyword")


def test_a_memory_is_shown_by_the_stretch_that_matches_with_its_id_for_explain(url: str) -> None:
    shown = by_words(url, "needleattheend").splitlines()
    assert shown[0] == "1  laptop-ada · no project · conversation"
    assert "the needleattheend of it" in shown[1] and shown[1].startswith("   … ") and shown[1].endswith(" …")
    assert shown[2].startswith(f"   {NOW:%Y-%m-%d %H:%M} UTC · hot · score ")
    assert shown[3:] == ["   id laptop-ada/conversation/long", "", "1 result · hot and warm answered · cold empty"]


def test_near_duplicates_are_counted_with_the_systems_that_have_them(url: str) -> None:
    shown = by_words(url, "oomkilled")
    assert "+6 near-duplicates on laptop-1, laptop-2, laptop-3, laptop-4 and 2 more" in shown
    assert "\n1 result · " in shown
    assert "near-duplicate" not in by_words(url, "oomkilled", "--system", "laptop-3")


def test_a_summary_and_its_tier_are_told(url: str) -> None:
    assert " UTC · warm, summary · score " in by_words(url, "certificate")


def test_what_machines_sent_is_text_on_one_line_and_its_id_is_safe_to_paste(url: str) -> None:
    shown = by_words(url, "zebra")
    assert "\x1b" not in shown and "\x07" not in shown
    title, text, _, name, *_ = shown.splitlines()
    assert title == "1  \\x1b]0;x\\x07 · [red] id fake · conversation"
    assert text == "   [bold]zebra\\x1b[31m $(touch gone)"
    assert shlex.split(name)[1:] == ["\\x1b]0;x\\x07/conversation/$(touch gone)"]


def test_at_a_terminal_words_are_marked_and_lines_fit(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held = StringIO()
    terminal = Console(file=held, force_terminal=True, width=80, color_system="standard", emoji=False)
    monkeypatch.setattr(answer, "console", terminal)
    by_words(url, "needleattheend")
    assert "\x1b[1;35mneedleattheend\x1b[0m" in held.getvalue()
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", held.getvalue()).splitlines())) <= 80


def test_a_ranking_that_did_not_answer_is_told_with_what_to_do(url: str) -> None:
    found = asked(url, "deadlock").splitlines()
    assert found[-3] == "The answer is not whole:"
    assert "the semantic ranking is unavailable" in found[-2] and "akosha model fetch" in found[-2]
    assert found[-1].startswith("1 result · ")
    nothing = asked(url, "xylophone").splitlines()
    assert nothing[0] == "Nothing found for 'xylophone', but the answer is not whole:"
    assert "akosha model fetch" in nothing[1]
    assert nothing[2] == "hot and warm answered · cold empty"


def test_nothing_found_names_the_filters_and_says_that_all_answered(url: str) -> None:
    shown = by_words(url, "deadlock", "--project", "biling", "--tag", "sql").splitlines()
    assert shown == ["Nothing found for 'deadlock' with project biling; tag sql.", "hot and warm answered · cold empty"]


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (["--system", "laptop-1", "--system", "laptop-2"], {"copy-1", "copy-2"}),
        (["--project", "orders"], {"old"}),
        (["--tag", "ops", "--system", "laptop-5"], {"copy-5"}),
        (["--kind", "reflection"], set()),
        (["--until", "1d", "--since", "10d"], {"old"}),
        (["--since", "1d", "--system", "laptop-0"], {"copy-0"}),
    ],
)
def test_filters_are_those_of_the_http_search(url: str, arguments: list[str], ids: set[str]) -> None:
    found = json.loads(by_words(url, "oomkilled deadlock", *arguments, "--json"))["results"]
    assert found if ids else not found
    assert {one["id"] for one in found} <= ids


def test_more_are_offered_where_there_are_more(url: str) -> None:
    assert by_words(url, "oomkilled deadlock", "-n", "1").splitlines()[-1].endswith(" · more with --limit 2")


def test_an_earlier_time_is_asked_for_and_told(url: str) -> None:
    shown = by_words(url, "oomkilled", "--as-of", "1").splitlines()
    assert shown[-1] == "1 result · hot answered · warm and cold empty · as of hot version 1"
    before = by_words(url, "oomkilled", "--as-of", "1h").splitlines()
    assert before[0] == "Nothing found for 'oomkilled'."
    assert before[-1].startswith("hot, warm and cold empty · as of 20")


def test_a_tier_that_cannot_be_followed_is_told(tmp_path: Path, serve: Callable[..., httpx.Client]) -> None:
    lake = Lake(LakeSettings(home=tmp_path))
    version = commit(lake, 1, memory("a", "postgres deadlock"))
    client = serve(lake)
    until(lambda: client.get("/health").json()["is_settled"])
    (Path(lake.uri("lifecycle/hot")) / f"_delta_log/{version + 1:020d}.json").write_text("{")
    until(lambda: client.get("/health").json()["tiers"]["hot"]["state"] == "stale")
    shown = by_words(str(client.base_url), "deadlock").splitlines()
    assert shown[-3] == "The answer is not whole:"
    assert shown[-2].startswith("   hot is stale: ") and "lifecycle/hot" in shown[-2]


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("2026-11-01", "2026-11-01T00:00:00+00:00"),
        ("2026-11-01T08:00", "2026-11-01T08:00:00+00:00"),
        ("2026-11-01T08:00:00+02:00", "2026-11-01T08:00:00+02:00"),
        ("90m", "2026-11-20T10:30:00+00:00"),
        ("2w", "2026-11-06T12:00:00+00:00"),
    ],
)
def test_a_time_is_a_day_a_time_or_how_long_ago(text: str, means: str) -> None:
    assert when(text, now=datetime(2026, 11, 20, 12, tzinfo=UTC), option="since") == means


@pytest.mark.parametrize("text", ["yesterday", "7", "-3d", "99999999999d", ""])
def test_what_is_no_time_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        when(text, now=datetime(2026, 11, 20, tzinfo=UTC), option="since")
    assert ended.value.exit_code == 2
    assert "7d" in capsys.readouterr().err
