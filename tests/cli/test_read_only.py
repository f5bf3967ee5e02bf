"""Commands that only read create no file, and every command is listed as reading or writing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from akosha_assets.cli.main import app

NOBODY = "http://127.0.0.1:9"
# Each with its exit code on an empty home.
READ_ONLY = {
    ("status", "--url", NOBODY): 0,
    ("status", "--url", NOBODY, "--json"): 0,
    ("uploads",): 0,
    ("alerts",): 0,
    ("explain", "laptop-ada/reflection/1"): 1,
    ("search", "anything", "--url", NOBODY): 3,
    ("metrics", "--once"): 0,
    ("age", "--dry-run"): 0,
    ("redrive", "--all", "--dry-run"): 1,
    ("inbox", "expire"): 0,
    ("retention", "apply"): 0,
    ("retention", "holds"): 0,
    ("tiers", "simulate"): 0,
    ("restore", "--list"): 2,
    ("verify",): 0,
    # These write, but not in an empty home.
    ("ingest", "--once"): 3,
    ("backup",): 2,
    ("restore",): 2,
    ("repair", "lifecycle/hot"): 1,
}
WRITES = {
    *(
        "up",
        "demo",
        "fleet upload",
        "model fetch",
        "ledger rebuild",
        "tiers renew",
        "retention hold",
        "retention release",
    ),
    *(
        "bench drain",
        "bench embed",
        "bench ingest",
        "bench lifecycle",
        "bench passages",
        "bench relevance",
        "bench resend",
    ),
    *("bench search", "bench serve", "bench tick", "bench tiers"),
}


@pytest.mark.parametrize("command", READ_ONLY, ids=" ".join)
def test_a_command_that_reads_creates_nothing(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, temporary = tmp_path / "work", tmp_path / "temporary"
    work.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("AKOSHA_HOME", str(work / "home"))
    monkeypatch.setenv("TMPDIR", str(temporary))
    result = CliRunner().invoke(app, list(command))
    assert result.exit_code == READ_ONLY[command], result.output
    assert sorted(tmp_path.rglob("*")) == [temporary, work]


def test_every_command_is_known_to_read_or_to_write() -> None:
    names = set(_commands(typer.main.get_command(app)))
    read = {name for name in names if any(f"{' '.join(command)} ".startswith(f"{name} ") for command in READ_ONLY)}
    assert read | WRITES == names and not read & WRITES


def _commands(command: object, name: str = "") -> Iterator[str]:
    if isinstance(command, typer.core.TyperGroup):
        for below, one in command.commands.items():
            yield from _commands(one, f"{name} {below}".strip())
    else:
        yield name
