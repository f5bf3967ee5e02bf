"""`akosha search`: one question to the running API, over HTTP like everyone else's."""

from datetime import datetime
from typing import Annotated, Any

import typer
from rich.panel import Panel

from akosha_assets.cli.api import DEFAULT_URL, call
from akosha_assets.cli.output import Json, console, emit, foreign

Url = Annotated[str, typer.Option(envvar="AKOSHA_URL", help="Address of the API.")]
TEXT_CHARACTERS = 400


def search(
    query: Annotated[str, typer.Argument(help="Words, or a question.")],
    mode: Annotated[str, typer.Option(help="hybrid, semantic or keyword.")] = "hybrid",
    limit: Annotated[int, typer.Option(min=1, max=100, help="Results at most.")] = 5,
    system: Annotated[str, typer.Option(help="Only memories of this system.")] = "",
    project: Annotated[str, typer.Option(help="Only memories of this project.")] = "",
    kind: Annotated[str, typer.Option(help="Only conversation or reflection.")] = "",
    since: Annotated[str, typer.Option(help="Only what happened at this time (ISO 8601 with zone) or later.")] = "",
    until: Annotated[str, typer.Option(help="Only what happened before this time.")] = "",
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Ask the fleet's memory.

    Exit status 0: it answered; 2: the question cannot be; 3: no API answers.
    """
    given = {"system_id": system, "project": project, "kind": kind, "since": since, "until": until}
    body = {"query": query, "mode": mode, "limit": limit} | {name: value for name, value in given.items() if value}
    answer = call("POST", url, "/api/v1/search", body=body)
    if as_json:
        emit(answer)
    else:
        show(query, answer)


def show(query: str, answer: dict[str, Any]) -> None:
    """The answer is printed: a panel a memory, then how whole the answer is."""
    results = answer["results"]
    for rank, one in enumerate(results, start=1):
        title = f"[bold]{rank}[/]  {foreign(one['system_id'])} · {foreign(one['project'] or 'no project')} · {one['kind']}"
        when = datetime.fromisoformat(one["occurred_at"]).strftime("%Y-%m-%d %H:%M")
        subtitle = f"{when} UTC · {one['tier']} · score {one['score']:.3f}"
        console.print(
            Panel(foreign(_short(one["text"])), title=title, subtitle=subtitle, title_align="left", subtitle_align="right"), highlight=False
        )
    if not results:
        console.print(f"Nothing found for [bold]{foreign(query)}[/].", highlight=False)
    tiers = " · ".join(f"{name} {tier['state']}" for name, tier in answer["tiers"].items())
    missing = [f"{name}: {stage['why']}" for name, stage in answer.get("stages", {}).items() if stage["state"] == "unavailable"]
    console.print(f"{len(results)} results · {tiers}", style="dim", highlight=False)
    for line in missing:
        console.print(line, style="yellow", highlight=False, soft_wrap=True, markup=False)


def _short(text: str) -> str:
    return text if len(text) <= TEXT_CHARACTERS else text[: TEXT_CHARACTERS - 1].rstrip() + "…"
