"""`akosha search`: sends one query to the running API; `answer.py` prints the result."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from akosha_assets.cli.answer import print_answer
from akosha_assets.cli.api import DEFAULT_URL, call
from akosha_assets.cli.output import Exit, Json, emit, fail
from akosha_assets.lake.serving.states import QuerySyntax, SearchMode

Url = Annotated[str, typer.Option(envvar="AKOSHA_URL", help="Address of the API.")]
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
# The service may have to load files that the tables no longer use.
AS_OF_SECONDS = 60
WHEN = "A day, a time (UTC unless it has a zone), or an age: 2026-11-01, 2026-11-01T08:00, 90m, 12h, 7d, 2w."


def search(
    query: Annotated[
        str, typer.Argument(help="Words, a question or pasted text. Put -- before one that begins with a dash.")
    ],
    mode: Annotated[
        SearchMode,
        typer.Option(help="Rank by meaning and words, by meaning, or by words."),
    ] = SearchMode.HYBRID,
    syntax: Annotated[
        QuerySyntax | None,
        typer.Option(
            help=(
                'plain: all of the query is text. auto: "a phrase", +"…", -"…" and field:value are operators. query: '
                "also prefix*, +required and -excluded. Default: auto with --mode keyword, otherwise plain."
            ),
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="Maximum number of results.")] = 5,
    system: Annotated[
        list[str] | None, typer.Option(help="Only memories of this system; repeat it for several.")
    ] = None,
    project: Annotated[
        list[str] | None, typer.Option(help="Only memories of this project; repeat it for several.")
    ] = None,
    kind: Annotated[str, typer.Option(help="Only conversation or reflection.")] = "",
    tag: Annotated[
        list[str] | None, typer.Option(help="Only memories with this tag; repeat it for memories with all of them.")
    ] = None,
    since: Annotated[str, typer.Option(help=f"Only memories from this time on. {WHEN}")] = "",
    until: Annotated[str, typer.Option(help="Only memories from before this time, given as for --since.")] = "",
    absent: Annotated[
        bool | None,
        typer.Option(help="Only memories that their source no longer has; --no-absent: only those that it has."),
    ] = None,
    as_of: Annotated[
        str,
        typer.Option(
            help="Search the tables as of this time, given as for --since, or as of this version of the hot table."
        ),
    ] = "",
    collapse: Annotated[
        bool, typer.Option(help="Show only the best of memories with the same words; --no-collapse shows each.")
    ] = True,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Search the memories of the fleet.

    Exit status 0: it was answered, even without results; 2: the query is invalid; 3: the API does not answer.
    """
    now = datetime.now(UTC)
    filters: dict[str, Any] = {"system_id": system, "project": project, "kind": kind, "tags": tag}
    filters |= {
        name: parse_time(text, now=now, option=name) for name, text in (("since", since), ("until", until)) if text
    }
    if absent is not None:
        filters["absent"] = absent
    if as_of:
        filters["as_of"] = (
            int(as_of) if as_of.isascii() and as_of.isdecimal() else parse_time(as_of, now=now, option="as-of")
        )
    body = {"query": query, "mode": mode, "syntax": syntax, "limit": limit} | {
        name: value for name, value in filters.items() if value or name in ("absent", "as_of")
    }
    if not collapse:
        body["collapse"] = False
    answer = call("POST", url, "/api/v1/search", body=body, timeout_seconds=AS_OF_SECONDS if as_of else 15)
    if as_json:
        emit(answer)
    else:
        print_answer(body, answer)


def parse_time(text: str, *, now: datetime, option: str) -> str:
    """The time that `text` means, as ISO 8601 with a zone.

    Raises:
        typer.Exit: it is not a time.
    """
    try:
        if age := re.fullmatch(r"([0-9]+) *([mhdw])", text.strip()):
            time = now.replace(microsecond=0) - timedelta(**{UNITS[age[2]]: int(age[1])})
        else:
            time = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError) as error:
        raise fail(f"--{option} {text!r} is not a time. {WHEN}", Exit.USAGE) from error
    return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).isoformat()
