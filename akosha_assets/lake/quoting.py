"""Quotes names and strings for SQL, for the places where a statement takes no parameters."""

from collections.abc import Iterable


def identifier(name: str) -> str:
    """`name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def literals(texts: Iterable[str]) -> str:
    """`texts` as SQL string literals separated by commas."""
    return ", ".join(map(literal, texts))
