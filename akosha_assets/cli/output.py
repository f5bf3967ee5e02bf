"""How every command answers: tables for people, one JSON object with `--json`, and an exit code.

Exit codes: 0 done, 1 it failed, 2 wrong use, 3 something that is needed is not available (a port, the API, a store).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from enum import IntEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

console = Console(emoji=False)
errors = Console(stderr=True, emoji=False)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


class Exit(IntEnum):
    """What a command's exit code means."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 3


def emit(answer: Any) -> None:
    """`answer` is on standard output as one line of JSON."""
    typer.echo(json.dumps(answer, default=_plain, ensure_ascii=False))


def fail(message: str, code: Exit) -> typer.Exit:
    """`message` is on standard error; raise what is returned."""
    errors.print(f"[bold red]error:[/] {foreign(message)}", highlight=False, soft_wrap=True)
    return typer.Exit(code)


@contextmanager
def lake_errors() -> Iterator[None]:
    """Deliberate errors of the lake end the command with their message instead of a traceback."""
    from akosha_assets.lake.errors import InvalidRequest, LakeError, TransientError

    try:
        yield
    except InvalidRequest as error:
        raise fail(str(error), Exit.USAGE) from error
    except TransientError as error:
        raise fail(str(error), Exit.UNAVAILABLE) from error
    except LakeError as error:
        raise fail(str(error), Exit.FAILED) from error


def grid(title: str, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> Table:
    """`rows` set out for a person; numbers to the right."""
    table = Table(title=_title(title), title_justify="left", header_style="dim", box=None, pad_edge=False)
    held = [list(row) for row in rows]
    for index, column in enumerate(columns):
        numbers = any(isinstance(row[index], int | float) for row in held)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold", no_wrap=index == 0)
    for row in held:
        table.add_row(*(Text(visible(shown(value))) for value in row))
    return table


def pairs(title: str, items: Iterable[tuple[str, Any]]) -> Table:
    """One thing set out for a person: a line for each name and its value."""
    table = Table(title=_title(title), title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in items:
        table.add_row(name, Text(visible(shown(value))))
    return table


def _title(title: str) -> Text:
    return Text(visible(title), "bold")


def visible(text: str) -> str:
    """`text` without characters that a terminal would obey; line ends and tabs stay."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode() for one in text)


def foreign(text: str) -> str:
    """`text` from a machine we do not own, to stand in what is printed: it holds no markup and no control characters."""
    return escape(visible(text))


def shown(value: Any) -> str:
    """`value` as a person reads it: grouped digits, times to the second, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        # A ratio or a recall is told by its second and third digit.
        return f"{value:.3g}" if abs(value) < 10 else f"{value:,.1f}"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return str(value)


def size(count: float) -> str:
    """`count` bytes in the largest unit that leaves a number of at least one."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable):
        return list(value)
    return str(value)
