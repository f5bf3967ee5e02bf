"""`akosha search` against a real service: its output for results, for missing parts and for filters."""

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
from akosha_assets.cli.search import parse_time
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings
from tests.api.conftest import serve as serve
from tests.api.conftest import until
from tests.hot_rows import NOW, commit, commit_to_tier, memory

LOREM = "lorem ipsum dolor sit amet " * 40
HOSTILE = "[bold]zebra\x1b[31m \n\n  $(touch gone)"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    filled = Lake(LakeSettings(home=tmp_path_factory.mktemp("akosha")))
    commit(
        filled,
        1,
        memory("long", f"{LOREM} the needleattheend of it, {LOREM}", project=None),
        *(
            memory(f"copy-{number}", "kubernetes oomkilled", system=f"laptop-{number}", tags=["ops"])
            for number in range(7)
        ),
        memory("old", "postgres deadlock", age=timedelta(days=3), project="orders"),
        memory("$(touch gone)", HOSTILE, system="\x1b]0;x\x07", project="[red]\nid fake"),
    )
    commit_to_tier(filled, 1, "warm", memory("aged", "ancient certificate", age=timedelta(days=30)))
    return filled


@pytest.fixture(scope="module")
def url(serve: Callable[..., httpx.Client], lake: Lake) -> str:
    client = serve(lake)
    until(lambda: client.get("/health").json()["is_settled"])
    return str(client.base_url)


def search(url: str, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["search", "--url", url, *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def keyword_search(url: str, *arguments: str) -> str:
    return search(url, "--mode", "keyword", *arguments)


def test_a_memory_is_printed_with_its_snippet_and_its_id_for_explain(url: str) -> None:
    shown = keyword_search(url, "needleattheend").splitlines()
    assert shown[0] == "1  laptop-ada · no project · conversation"
    assert "the needleattheend of it" in shown[1] and shown[1].startswith("   … ") and shown[1].endswith(" …")
    assert shown[2].startswith(f"   {NOW:%Y-%m-%d %H:%M} UTC · hot · score ")
    assert shown[3:] == ["   id laptop-ada/conversation/long", "", "1 result · hot and warm answered · cold empty"]


def test_near_duplicates_are_counted_with_the_systems_that_have_them(url: str) -> None:
    shown = keyword_search(url, "oomkilled")
    assert "+6 near-duplicates on laptop-1, laptop-2, laptop-3, laptop-4 and 2 more" in shown
    assert "\n1 result · " in shown
    names = [f"laptop-{number}/conversation/copy-{number}" for number in range(7)]
    assert sum(name in shown for name in names) == 4, "itself and the first three of the others"
    each = keyword_search(url, "oomkilled", "--no-collapse", "-n", "10")
    assert "\n7 results · " in each and "near-duplicate" not in each and all(name in each for name in names)
    assert "near-duplicate" not in keyword_search(url, "oomkilled", "--system", "laptop-3")


def test_results_that_are_not_close_are_named(url: str) -> None:
    assert "not close" not in keyword_search(url, "certificate")
    shown = keyword_search(url, "certificate xylophone quagga marimba saffron sourdough lighthouse penguin")
    assert ", not close\n" in shown
    assert "Nothing in the fleet is close to the question; the results are only the nearest." in shown


def test_a_summary_is_printed_with_its_tier(url: str) -> None:
    assert " UTC · warm, summary · score " in keyword_search(url, "certificate")


def test_untrusted_text_is_on_one_line_and_its_id_is_safe_to_paste(url: str) -> None:
    shown = keyword_search(url, "zebra")
    assert "\x1b" not in shown and "\x07" not in shown
    title, text, _, name, *_ = shown.splitlines()
    assert title == "1  \\x1b]0;x\\x07 · [red] id fake · conversation"
    assert text == "   [bold]zebra\\x1b[31m $(touch gone)"
    assert shlex.split(name)[1:] == ["\\x1b]0;x\\x07/conversation/$(touch gone)"]


def test_in_a_terminal_matches_are_highlighted_and_lines_wrapped(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    output = StringIO()
    terminal = Console(file=output, force_terminal=True, width=80, color_system="standard", emoji=False)
    monkeypatch.setattr(answer, "console", terminal)
    keyword_search(url, "needleattheend")
    assert "\x1b[1;35mneedleattheend\x1b[0m" in output.getvalue()
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", output.getvalue()).splitlines())) <= 80


def test_a_ranking_that_is_unavailable_is_printed_with_what_to_do(url: str) -> None:
    found = search(url, "deadlock").splitlines()
    assert found[-3] == "The answer is incomplete:"
    assert "the semantic ranking is unavailable" in found[-2] and "akosha model fetch" in found[-2]
    assert found[-1].startswith("1 result · ")
    nothing = search(url, "xylophone").splitlines()
    assert nothing[0] == "Nothing found for 'xylophone', but the answer is incomplete:"
    assert "akosha model fetch" in nothing[1]
    assert nothing[2] == "hot and warm answered · cold empty"


def test_an_answer_without_results_names_the_filters_and_the_tiers(url: str) -> None:
    shown = keyword_search(url, "deadlock", "--project", "biling", "--tag", "sql").splitlines()
    assert shown == [
        "Nothing found for 'deadlock' with project biling; tag sql.",
        "No memory has project biling or tag sql.",
        "hot and warm answered · cold empty",
    ]


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
    found = json.loads(keyword_search(url, "oomkilled deadlock", *arguments, "--json"))["results"]
    assert found if ids else not found
    assert {one["id"] for one in found} <= ids


def test_pasted_text_is_searched_as_it_is_and_operators_are_named(url: str) -> None:
    named = "Read as operators: -"
    for text in ("oomkilled --no-verify", "--oomkilled", "-oomkilled", "exit -9: oomkilled"):
        shown = keyword_search(url, "--", text) if text.startswith("-") else keyword_search(url, text)
        assert "oomkilled" in shown.splitlines()[1] and named not in shown
    lines = keyword_search(url, 'kubernetes -"oomkilled"').splitlines()
    assert lines[1].startswith('Read as operators: -"oomkilled" (must not contain the word oomkilled in this form); ')
    assert "oomkilled" in keyword_search(url, 'kubernetes -"oomkilled"', "--syntax", "plain").splitlines()[1]
    assert "kubernetes" in keyword_search(url, "kubern*", "--syntax", "query").splitlines()[1]
    assert "operators" not in keyword_search(url, "kubernetes")


def test_the_summary_names_the_option_for_more_results(url: str) -> None:
    assert keyword_search(url, "oomkilled deadlock", "-n", "1").splitlines()[-1].endswith(" · more with --limit 2")


def test_a_search_as_of_an_earlier_time_prints_that_time(url: str) -> None:
    shown = keyword_search(url, "oomkilled", "--as-of", "1").splitlines()
    assert shown[-1] == "1 result · hot answered · warm and cold empty · as of hot version 1"
    before = keyword_search(url, "oomkilled", "--as-of", "1h").splitlines()
    assert before[0] == "Nothing found for 'oomkilled'."
    assert before[-1].startswith("hot, warm and cold empty · as of 20")


def test_a_stale_tier_is_printed_with_its_reason(tmp_path: Path, serve: Callable[..., httpx.Client]) -> None:
    lake = Lake(LakeSettings(home=tmp_path))
    version = commit(lake, 1, memory("a", "postgres deadlock"))
    client = serve(lake)
    until(lambda: client.get("/health").json()["is_settled"])
    (Path(lake.uri("lifecycle/hot")) / f"_delta_log/{version + 1:020d}.json").write_text("{")
    until(lambda: client.get("/health").json()["tiers"]["hot"]["state"] == "stale")
    shown = keyword_search(str(client.base_url), "deadlock").splitlines()
    assert shown[-3] == "The answer is incomplete:"
    assert shown[-2].startswith("   hot is stale: ") and "lifecycle/hot" in shown[-2]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-01", "2026-11-01T00:00:00+00:00"),
        ("2026-11-01T08:00", "2026-11-01T08:00:00+00:00"),
        ("2026-11-01T08:00:00+02:00", "2026-11-01T08:00:00+02:00"),
        ("90m", "2026-11-20T10:30:00+00:00"),
        ("2w", "2026-11-06T12:00:00+00:00"),
    ],
)
def test_a_time_is_a_day_a_time_or_an_age(text: str, time: str) -> None:
    assert parse_time(text, now=datetime(2026, 11, 20, 12, tzinfo=UTC), option="since") == time


@pytest.mark.parametrize("text", ["yesterday", "7", "-3d", "99999999999d", ""])
def test_anything_else_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        parse_time(text, now=datetime(2026, 11, 20, tzinfo=UTC), option="since")
    assert ended.value.exit_code == 2
    assert "7d" in capsys.readouterr().err
