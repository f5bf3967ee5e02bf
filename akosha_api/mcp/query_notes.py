"""What an answer tells an agent about its own request, in few tokens: operators of the query, unknown filter values."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import orjson
from pydantic import BaseModel

from akosha_assets.lake.serving.query import Operator

# Share of the budget that each list may take, and the length of its texts: the agent knows what it sent.
SHARE, MAX_CHARS = 0.1, 60

Note = TypeVar("Note")


class OperatorNote(BaseModel):
    """A part of the query that was not searched as text."""

    text: str
    meaning: str


def operator_notes(operators: Sequence[Operator], budget_bytes: int) -> list[OperatorNote]:
    """The first operators that fit `SHARE` of the budget, their texts cut to `MAX_CHARS`."""
    notes = [OperatorNote(text=_shorten(each.text), meaning=_shorten(each.meaning)) for each in operators]
    return _fitting(notes, budget_bytes, lambda note: note.model_dump_json().encode())


def value_notes(values: Mapping[str, Sequence[str]], budget_bytes: int) -> list[str]:
    """The first filter values with their filters that fit `SHARE` of the budget, cut to `MAX_CHARS`."""
    notes = [f"{name} {_shorten(value)!r}" for name, of_name in values.items() for value in of_name]
    return _fitting(notes, budget_bytes, orjson.dumps)


def _fitting(notes: Iterable[Note], budget_bytes: int, encode: Callable[[Note], bytes]) -> list[Note]:
    fitting = []
    bytes_left = int(SHARE * budget_bytes)
    for note in notes:
        # One byte for the comma.
        bytes_left -= len(encode(note)) + 1
        if bytes_left < 0:
            break
        fitting.append(note)
    return fitting


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_CHARS else f"{text[: MAX_CHARS - 1]}…"
