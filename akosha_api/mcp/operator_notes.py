"""The operators of a query as an answer for an agent names them."""

from collections.abc import Sequence

from pydantic import BaseModel

from akosha_assets.lake.serving.query import Operator

# Share of the budget that they may take, and the length of each: the agent knows its query.
SHARE, MAX_CHARS = 0.15, 60


class OperatorNote(BaseModel):
    """A part of the query that was not searched as text."""

    text: str
    meaning: str


def operator_notes(operators: Sequence[Operator], budget_bytes: int) -> list[OperatorNote]:
    """The first operators that fit `SHARE` of the budget, their texts cut to `MAX_CHARS`."""
    notes: list[OperatorNote] = []
    bytes_left = int(SHARE * budget_bytes)
    for operator in operators:
        note = OperatorNote(text=_shorten(operator.text), meaning=_shorten(operator.meaning))
        # One byte for the comma.
        bytes_left -= len(note.model_dump_json().encode()) + 1
        if bytes_left < 0:
            break
        notes.append(note)
    return notes


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_CHARS else f"{text[: MAX_CHARS - 1]}…"
