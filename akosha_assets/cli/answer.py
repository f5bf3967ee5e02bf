"""Prints the answer of a search for people: a paragraph per memory, then what is missing and a summary.

Reads the JSON of `POST /api/v1/search`. Untrusted texts are printed on one line, with control characters escaped.
"""

import re
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.padding import Padding
from rich.text import Text

from akosha_assets.cli.output import console, escape_controls
from akosha_assets.lake.serving.states import CLOSE

INDENT = 3
# Maximum line length.
WIDTH = 100
SYSTEMS_SHOWN = 4
NAMES_SHOWN = 3
LIMIT = 100
FILTERS = ("system_id", "project", "kind", "tags", "since", "until", "absent")
MATCH = "bold magenta"


def print_answer(query: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    """Print the answer to `query`, the body of the request."""
    for rank, memory in enumerate(answer["results"], start=1):
        _print_memory(rank, memory)
    missing = _missing_parts(answer)
    if not answer["results"]:
        end = ", but the answer is incomplete:" if missing else "."
        _print(Text.assemble("Nothing found for ", (f"'{_line(query['query'])}'", "bold"), _filters(query), end))
    elif missing:
        _print(Text("The answer is incomplete:", "yellow"))
    for line in missing:
        _print(Text(line, "yellow"), indent=INDENT)
    if answer["unknown_values"]:
        values = [f"{_option(name)} {value}" for name, of_name in answer["unknown_values"].items() for value in of_name]
        _print(Text(f"No memory has {_line(' or '.join(values))}.", "yellow"))
    if answer["message"]:
        _print(Text(f"{answer['message'].capitalize()}.", "yellow"))
    elif answer["below_line"]:
        _print(Text(f"{answer['below_line']} of {len(answer['results'])} results are not close.", "dim"))
    if answer["operators"]:
        operators = [f"{_line(one['text'])} ({_line(one['meaning'])})" for one in answer["operators"]]
        _print(Text(f"Read as operators: {', '.join(operators)}; --syntax plain searches for them as text.", "dim"))
    _print(Text(_summary(query, answer), "dim"))


def _print_memory(rank: int, memory: Mapping[str, Any]) -> None:
    """Print one memory and an empty line."""
    title = Text.assemble((str(rank).ljust(INDENT), "dim"), (_line(memory["system_id"]), "bold"))
    title.append(f" · {_line(memory['project'] or 'no project')} · {_line(memory['kind'])}")
    _print(title)
    _print(_snippet(memory), indent=INDENT)
    when = datetime.fromisoformat(memory["occurred_at"]).astimezone(UTC).strftime("%Y-%m-%d %H:%M")
    summary = ", summary" if memory["is_summary"] else ""
    not_close = ", not close" if memory["relevance"] < CLOSE else ""
    closeness = f"score {memory['score']:.3f} · relevance {memory['relevance']:.2f}{not_close}"
    _print(Text(f"{when} UTC · {memory['tier']}{summary} · {closeness}", "dim"), indent=INDENT)
    if memory["absent_since"] is not None:
        since = datetime.fromisoformat(memory["absent_since"]).astimezone(UTC).strftime("%Y-%m-%d %H:%M")
        _print(Text(f"no longer in its source since {since} UTC", "yellow"), indent=INDENT)
    console.print(Text(f"{' ' * INDENT}id {_name(memory)}", "dim"), soft_wrap=True)
    if memory["duplicates"]["count"]:
        _print(Text(_duplicates(memory), "dim"), indent=INDENT)
        names = "  ".join(_name(each) for each in memory["duplicates"]["memories"][:NAMES_SHOWN])
        console.print(Text(f"{' ' * INDENT}collapsed {names}", "dim"), soft_wrap=True)
    console.print()


def _name(memory: Mapping[str, Any]) -> str:
    """The name that `akosha explain` takes: untrusted, and meant to be pasted into a shell, so it is quoted."""
    return _line(shlex.quote(f"{memory['system_id']}/{memory['kind']}/{memory['id']}"))


def _snippet(memory: Mapping[str, Any]) -> Text:
    """The snippet with its highlights, and an ellipsis where the text continues."""
    text, snippet = memory["text"], memory["snippet"]["text"]
    if not snippet.strip():
        return Text("no text", "dim italic")
    styled = Text("" if text.startswith(snippet) else "… ")
    at = 0
    for start, end in memory["snippet"]["highlights"]:
        styled.append(_one_line(snippet[at:start]))
        styled.append(_one_line(snippet[start:end]), MATCH)
        at = end
    styled.append(_one_line(snippet[at:]))
    return styled if text.endswith(snippet) else styled.append(" …")


def _duplicates(memory: Mapping[str, Any]) -> str:
    """The number of near-duplicates of the memory, and the other systems that have them."""
    count = memory["duplicates"]["count"]
    others = [_line(name) for name in memory["duplicates"]["systems"] if name != memory["system_id"]]
    more = f" and {len(others) - SYSTEMS_SHOWN} more" if len(others) > SYSTEMS_SHOWN else ""
    where = ", ".join(others[:SYSTEMS_SHOWN]) + more if others else "the same system"
    return f"+{count} near-duplicate{'s' * (count != 1)} on {where}; --no-collapse shows each"


def _missing_parts(answer: Mapping[str, Any]) -> list[str]:
    """A line for each tier and each ranking that the answer lacks or has in part."""
    has_rows = any(tier["rows"] for tier in answer["tiers"].values())
    states = {"skipped": "was not searched", "partial": "is only partly searched"}
    tiers = [
        (f"{name} {states.get(tier['state'], 'is ' + tier['state'])}", tier["reason"])
        for name, tier in answer["tiers"].items()
        if tier["state"] not in ("answered", "empty")
    ]
    stages = [
        (f"the {name} ranking is {'unavailable' if stage['state'] == 'unavailable' else 'incomplete'}", stage["reason"])
        for name, stage in answer["stages"].items()
        if stage["state"] == "unavailable" or (stage["state"] == "answered" and stage["reason"] and has_rows)
    ]
    return [f"{what}: {_line(reason)}" if reason else what for what, reason in tiers + stages]


def _summary(query: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    """The number of results, the tiers they are from, and how to get more."""
    count, limit = len(answer["results"]), query.get("limit", 10)
    parts = [f"{count} result{'s' * (count != 1)}"] if count else []
    for state in ("answered", "empty"):
        if names := [name for name, tier in answer["tiers"].items() if tier["state"] == state]:
            parts.append(f"{' and '.join(filter(None, (', '.join(names[:-1]), names[-1])))} {state}")
    if "as_of" in query:
        shown = [
            f"{name} version {tier['version']}" for name, tier in answer["tiers"].items() if tier["version"] is not None
        ]
        time = [] if isinstance(query["as_of"], int) else [query["as_of"]]
        parts.append(f"as of {', '.join(time + shown)}")
    if answer["cursor"] is not None and count == limit:
        parts.append(f"more with --limit {min(LIMIT, 2 * limit)}" if limit < LIMIT else "more match")
    return " · ".join(parts)


def _filters(query: Mapping[str, Any]) -> str:
    """The filters of the query, for an answer without results: one of them may be misspelt."""
    filters = {name: query[name] for name in FILTERS if name in query}
    shown = [
        f"{_option(name)} {', '.join(value) if isinstance(value, list) else value}" for name, value in filters.items()
    ]
    return f" with {_line('; '.join(shown))}" if shown else ""


def _option(name: str) -> str:
    """The option of the filter `name`."""
    return name.removesuffix("_id").removesuffix("s")


def _one_line(text: str) -> str:
    """`text` on one line, with single spaces; leading and trailing space stays."""
    return escape_controls(re.sub(r"\s+", " ", text))


def _line(text: str) -> str:
    return _one_line(text).strip()


def _print(text: Text, *, indent: int = 0) -> None:
    """Print `text`, wrapped in a terminal, on one line in a pipe."""
    if console.is_terminal:
        console.print(Padding(text, (0, 0, 0, indent)), width=min(console.width, WIDTH))
    else:
        console.print(Text(" " * indent) + text, soft_wrap=True)
