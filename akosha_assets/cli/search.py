"""`akosha search`: one question to the running API, over HTTP like everyone else's. How it is shown is in `answer.py`."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import typer

from akosha_assets.cli.answer import show
from akosha_assets.cli.api import DEFAULT_URL, call
from akosha_assets.cli.output import Exit, Json, emit, fail

Url = Annotated[str, typer.Option(envvar="AKOSHA_URL", help="Address of the API.")]
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
# Files that left the tables may have to be loaded.
AS_OF_SECONDS = 60
WHEN = "A day, a time (in UTC where it has no zone), or how long ago: 2026-11-01, 2026-11-01T08:00, 90m, 12h, 7d, 2w."


def search(
    query: Annotated[str, typer.Argument(help="Words, or a question.")],
    mode: Annotated[
        Literal["hybrid", "semantic", "keyword"],
        typer.Option(help="Rank by meaning and words, by meaning, or by words."),
    ] = "hybrid",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="Results at most.")] = 5,
    system: Annotated[
        list[str] | None, typer.Option(help="Only memories of this system; of any of them where given again.")
    ] = None,
    project: Annotated[
        list[str] | None, typer.Option(help="Only memories of this project; of any of them where given again.")
    ] = None,
    kind: Annotated[str, typer.Option(help="Only conversation or reflection.")] = "",
    tag: Annotated[
        list[str] | None, typer.Option(help="Only memories with this tag; with all of them where given again.")
    ] = None,
    since: Annotated[str, typer.Option(help=f"Only what happened then or later. {WHEN}")] = "",
    until: Annotated[str, typer.Option(help="Only what happened before then; as --since.")] = "",
    as_of: Annotated[
        str, typer.Option(help="The tables as they stood then, as --since, or at this version of the hot table.")
    ] = "",
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Ask the fleet's memory.

    Exit status 0: it answered, even with nothing; 2: the question cannot be; 3: no API answers.
    """
    now = datetime.now(UTC)
    given: dict[str, Any] = {"system_id": system, "project": project, "kind": kind, "tags": tag}
    given |= {name: when(text, now=now, option=name) for name, text in (("since", since), ("until", until)) if text}
    if as_of:
        given["as_of"] = int(as_of) if as_of.isascii() and as_of.isdecimal() else when(as_of, now=now, option="as-of")
    body = {"query": query, "mode": mode, "limit": limit} | {
        name: value for name, value in given.items() if value or name == "as_of"
    }
    answer = call("POST", url, "/api/v1/search", body=body, timeout_seconds=AS_OF_SECONDS if as_of else 15)
    if as_json:
        emit(answer)
    else:
        show(body, answer)


def when(text: str, *, now: datetime, option: str) -> str:
    """The time that `text` means, ISO 8601 with zone; ends the command where it means none."""
    try:
        if ago := re.fullmatch(r"([0-9]+) *([mhdw])", text.strip()):
            time = now.replace(microsecond=0) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
        else:
            time = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError) as error:
        raise fail(f"--{option} {text!r} is no time. {WHEN}", Exit.USAGE) from error
    return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).isoformat()
