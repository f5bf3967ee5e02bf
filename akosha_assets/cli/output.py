"""The output of every command: tables for people, one JSON object with `--json`, and an exit code.

Exit codes: 0 success, 1 failure, 2 wrong usage, 3 something needed is unavailable (a port, the API, a store).
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
error_console = Console(stderr=True, emoji=False)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


class Exit(IntEnum):
    """The exit codes of the commands."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 3


def emit(answer: Any) -> None:
    """Print `answer` on standard output as one line of JSON."""
    typer.echo(json.dumps(answer, default=_json_value, ensure_ascii=False))


def fail(message: str, code: Exit) -> typer.Exit:
    """Print `message` on standard error; the caller raises the returned exception."""
    error_console.print(f"[bold red]error:[/] {escape_markup(message)}", highlight=False, soft_wrap=True)
    return typer.Exit(code)


@contextmanager
def lake_errors() -> Iterator[None]:
    """End the command with the message of a lake error instead of a traceback."""
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
    """A table of `rows`, with numbers aligned to the right."""
    table = Table(title=_title(title), title_justify="left", header_style="dim", box=None, pad_edge=False)
    cells = [list(row) for row in rows]
    for index, column in enumerate(columns):
        is_numeric = any(isinstance(row[index], int | float) for row in cells)
        table.add_column(column, justify="right" if is_numeric else "left", overflow="fold", no_wrap=index == 0)
    for row in cells:
        table.add_row(*(Text(escape_controls(format_value(value))) for value in row))
    return table


def key_values(title: str, items: Iterable[tuple[str, Any]]) -> Table:
    """A table with a line for each name and its value."""
    table = Table(title=_title(title), title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in items:
        table.add_row(name, Text(escape_controls(format_value(value))))
    return table


def _title(title: str) -> Text:
    return Text(escape_controls(title), "bold")


def escape_controls(text: str) -> str:
    """`text` with control characters as escapes, so that no terminal interprets them; line breaks and tabs stay."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else letter.encode("unicode_escape").decode()
        for letter in text
    )


def escape_markup(text: str) -> str:
    """Untrusted `text` for `console.print`, with markup and control characters escaped."""
    return escape(escape_controls(text))


def format_value(value: Any) -> str:
    """`value` for people: grouped digits, UTC times to the second, a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        # Ratios and recalls differ in their second and third digit.
        return f"{value:.3g}" if abs(value) < 10 else f"{value:,.1f}"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return str(value)


def format_bytes(count: float) -> str:
    """`count` bytes in the largest unit in which it is at least one."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable):
        return list(value)
    return str(value)
