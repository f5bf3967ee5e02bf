"""A search's answer as a person reads it: a paragraph a memory, then how whole the answer is and what it lacks.

Reads the JSON of `POST /api/v1/search`. Everything in it that machines sent is printed as text on one line.
"""

import re
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.padding import Padding
from rich.text import Text

from akosha_assets.cli.output import console, visible

INDENT = 3
# Longer lines are hard to read.
WIDTH = 100
SYSTEMS_NAMED = 4
LIMIT = 100
FILTERS = ("system_id", "project", "kind", "tags", "since", "until")
MATCH = "bold magenta"


def show(question: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    """The answer to `question`, the body that was sent, is printed."""
    for rank, one in enumerate(answer["results"], start=1):
        _show_one(rank, one)
    lacking = _lacking(answer)
    if not answer["results"]:
        end = ", but the answer is not whole:" if lacking else "."
        _print(
            Text.assemble("Nothing found for ", (f"'{_line(question['query'])}'", "bold"), _conditions(question), end)
        )
    elif lacking:
        _print(Text("The answer is not whole:", "yellow"))
    for line in lacking:
        _print(Text(line, "yellow"), indent=INDENT)
    _print(Text(_summary(question, answer), "dim"))


def _show_one(rank: int, one: Mapping[str, Any]) -> None:
    """One memory is printed, and an empty line."""
    title = Text.assemble((str(rank).ljust(INDENT), "dim"), (_line(one["system_id"]), "bold"))
    title.append(f" · {_line(one['project'] or 'no project')} · {_line(one['kind'])}")
    _print(title)
    _print(_snippet(one), indent=INDENT)
    when = datetime.fromisoformat(one["occurred_at"]).astimezone(UTC).strftime("%Y-%m-%d %H:%M")
    summary = ", summary" if one["is_summary"] else ""
    _print(Text(f"{when} UTC · {one['tier']}{summary} · score {one['score']:.3f}", "dim"), indent=INDENT)
    # Quoted for a shell, since it is there to be pasted and a machine chose it; never broken, for the same reason.
    name = shlex.quote(f"{one['system_id']}/{one['kind']}/{one['id']}")
    console.print(Text(f"{' ' * INDENT}id {_line(name)}", "dim"), soft_wrap=True)
    if one["duplicates"]["count"]:
        _print(Text(_duplicates(one), "dim"), indent=INDENT)
    console.print()


def _snippet(one: Mapping[str, Any]) -> Text:
    """The stretch that matches, with its words marked, and dots where the text goes on."""
    whole, stretch = one["text"], one["snippet"]["text"]
    if not stretch.strip():
        return Text("no text", "dim italic")
    shown = Text("" if whole.startswith(stretch) else "… ")
    at = 0
    for start, end in one["snippet"]["highlights"]:
        shown.append(_spaced(stretch[at:start]))
        shown.append(_spaced(stretch[start:end]), MATCH)
        at = end
    shown.append(_spaced(stretch[at:]))
    return shown if whole.endswith(stretch) else shown.append(" …")


def _duplicates(one: Mapping[str, Any]) -> str:
    """How many near-duplicates it stands for, and on which other systems."""
    count = one["duplicates"]["count"]
    others = [_line(name) for name in one["duplicates"]["systems"] if name != one["system_id"]]
    more = f" and {len(others) - SYSTEMS_NAMED} more" if len(others) > SYSTEMS_NAMED else ""
    where = ", ".join(others[:SYSTEMS_NAMED]) + more if others else "the same system"
    return f"+{count} near-duplicate{'s' * (count != 1)} on {where}"


def _lacking(answer: Mapping[str, Any]) -> list[str]:
    """What the answer says of each tier and each ranking that is not in it whole."""
    has_rows = any(tier["rows"] for tier in answer["tiers"].values())
    states = {"skipped": "was not asked", "partial": "is still being loaded"}
    tiers = [
        (f"{name} {states.get(tier['state'], 'is ' + tier['state'])}", tier["reason"])
        for name, tier in answer["tiers"].items()
        if tier["state"] not in ("answered", "empty")
    ]
    stages = [
        (f"the {name} ranking is {'unavailable' if stage['state'] == 'unavailable' else 'not whole'}", stage["reason"])
        for name, stage in answer["stages"].items()
        if stage["state"] == "unavailable" or (stage["state"] == "answered" and stage["reason"] and has_rows)
    ]
    return [f"{what}: {_line(reason)}" if reason else what for what, reason in tiers + stages]


def _summary(question: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    """The count, which tiers it is of, and whether there is more."""
    count, limit = len(answer["results"]), question.get("limit", 10)
    said = [f"{count} result{'s' * (count != 1)}"] if count else []
    for state in ("answered", "empty"):
        if names := [name for name, tier in answer["tiers"].items() if tier["state"] == state]:
            said.append(f"{' and '.join(filter(None, (', '.join(names[:-1]), names[-1])))} {state}")
    if "as_of" in question:
        shown = [
            f"{name} version {tier['version']}" for name, tier in answer["tiers"].items() if tier["version"] is not None
        ]
        time = [] if isinstance(question["as_of"], int) else [question["as_of"]]
        said.append(f"as of {', '.join(time + shown)}")
    if answer["cursor"] is not None and count == limit:
        said.append(f"more with --limit {min(LIMIT, 2 * limit)}" if limit < LIMIT else "more match")
    return " · ".join(said)


def _conditions(question: Mapping[str, Any]) -> str:
    """The filters of the question: one that is misspelt finds nothing."""
    given = {name: question[name] for name in FILTERS if name in question}
    told = [
        f"{name.removesuffix('_id').removesuffix('s')} {', '.join(value) if isinstance(value, list) else value}"
        for name, value in given.items()
    ]
    return f" with {_line('; '.join(told))}" if told else ""


def _spaced(text: str) -> str:
    """`text` on one line, its words as far apart at both ends as they were."""
    return visible(re.sub(r"\s+", " ", text))


def _line(text: str) -> str:
    return _spaced(text).strip()


def _print(text: Text, *, indent: int = 0) -> None:
    """`text` is printed, in lines as wide as is good to read; in a pipe as one line."""
    if console.is_terminal:
        console.print(Padding(text, (0, 0, 0, indent)), width=min(console.width, WIDTH))
    else:
        console.print(Text(" " * indent) + text, soft_wrap=True)
