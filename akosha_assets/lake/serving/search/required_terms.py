"""Applies the required (`+`) and excluded (`-`) terms of a question to a semantic ranking, which ignores words.

For the keyword index the same terms are queries (`text/query_parser.py`).
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from akosha_assets.lake.serving.parts.part import Categories, Part
from akosha_assets.lake.serving.query import Token
from akosha_assets.lake.serving.search.ranking import Places, Ranking
from akosha_assets.lake.serving.text.analysis import (
    extra_words,
    identifier_parts,
    is_single_letter,
    stem,
    words_of_plain,
)
from akosha_assets.lake.serving.text.folding import plain
from akosha_assets.lake.serving.text.terminal_codes import displayed
from akosha_assets.lake.serving.time_limit import check_time_limit

# No word contains it.
SEPARATOR = "\0"


def filter_ranking(
    ranking: Ranking, places: Places, required: Sequence[Token], terms: dict[str, Categories]
) -> Ranking:
    """The rows of `ranking` that match every token with `+` and none with `-`."""
    rows = zip(ranking.place.tolist(), ranking.row.tolist(), strict=True)
    return ranking.take(np.array([matches_all(places[place][1], row, required, terms) for place, row in rows], bool))


def matches_all(part: Part, row: int, required: Sequence[Token], terms: dict[str, Categories]) -> bool:
    """Whether a row matches every token with `+` and none with `-`."""
    check_time_limit()
    text: _Text | None = None
    for token in required:
        if token.field == "text":
            if not token.words:
                continue
            text = text or _Text(part.payload.value("text", row))
            is_match = text.matches(token)
        elif token.field == "tags":
            is_match = token.text in (part.payload.value("tags", row) or ())
        else:
            is_match = bool(part.codes[token.field][row] == terms[token.field].code(token.text))
        if is_match != (token.sign == "+"):
            return False
    return True


class _Text:
    """The words of a text, the words inside its identifiers, and those of its other reading."""

    def __init__(self, text: str):
        shown = plain(displayed(text))
        (inner,) = identifier_parts(pa.array([shown]))
        self.words = (words_of_plain(shown), words_of_plain(inner or ""), extra_words(text))
        self.joined = tuple(_join(words) for words in self.words)

    def matches(self, token: Token) -> bool:
        """Whether a form of the word, or the phrase or prefix, is in the text."""
        if len(token.words) == 1 and not (token.is_prefix or token.is_phrase or is_single_letter(token.words[0])):
            common = stem(token.words[0])
            return any(stem(word) == common for words in self.words for word in words)
        phrase = _join(token.words)
        if token.is_prefix or is_single_letter(token.words[-1]):
            phrase = phrase.removesuffix(SEPARATOR)
        return any(phrase in joined for joined in self.joined)


def _join(words: Sequence[str]) -> str:
    """Words as one string, so that a phrase is a substring: `in` takes linear time even if both repeat."""
    return SEPARATOR + "".join(f"{word}{SEPARATOR}" for word in words)
