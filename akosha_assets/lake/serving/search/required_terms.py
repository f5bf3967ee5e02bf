"""What the signs of a question demand of every result, held against rows that were ranked by meaning, which knows no
words.

In the keyword index the same demands are queries (`query_parser.py`).
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from akosha_assets.lake.serving.parts.part import Categories, Part
from akosha_assets.lake.serving.query import Token
from akosha_assets.lake.serving.search.ranking import Places, Ranking
from akosha_assets.lake.serving.text.analysis import identifier_parts, stem, tokenize
from akosha_assets.lake.serving.time_limit import check_time_limit

# No token has it.
SEPARATOR = "\0"


def filter_ranking(ranking: Ranking, places: Places, demands: Sequence[Token], terms: dict[str, Categories]) -> Ranking:
    """The rows of `ranking` that meet all of `demands`."""
    rows = zip(ranking.place.tolist(), ranking.row.tolist(), strict=True)
    return ranking.picked(np.array([_matches_all(places[place][1], row, demands, terms) for place, row in rows], bool))


def _matches_all(part: Part, row: int, demands: Sequence[Token], terms: dict[str, Categories]) -> bool:
    check_time_limit()
    said: list[list[str]] = []
    joined: list[str] = []
    for token in demands:
        if token.field == "text":
            found = token.words
            if not found:
                continue
            if not said:
                said = _said(part.payload.value("text", row))
                joined = [_joined(each) for each in said]
            if len(found) == 1 and not token.is_prefix and not token.is_phrase:
                common = stem(found[0])
                holds = any(stem(word) == common for each in said for word in each)
            else:
                sought = _joined(found)[: -len(SEPARATOR)] if token.is_prefix else _joined(found)
                holds = any(sought in each for each in joined)
        elif token.field == "tags":
            holds = token.text in (part.payload.value("tags", row) or ())
        else:
            holds = bool(part.codes[token.field][row] == terms[token.field].code(token.text))
        if holds != (token.sign == "+"):
            return False
    return True


def _said(text: str) -> list[list[str]]:
    """The words of a text, and the words inside its names."""
    (inside,) = identifier_parts(pa.array([text]))
    return [tokenize(text), tokenize(inside or "")]


def _joined(tokens: Sequence[str]) -> str:
    """Words that stand together, as a text to search: `in` takes time in proportion to both texts, whatever they
    repeat.
    """
    return SEPARATOR + "".join(f"{token}{SEPARATOR}" for token in tokens)
