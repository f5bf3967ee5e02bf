"""The stretch of a text that an answer shows, and where in it the words of the question stand."""

import re
from collections.abc import Iterator
from typing import Any

from akosha_assets.lake.serving.words import INNER, UNSPACED, beginning, stem

SNIPPET_CHARS = 240
WORD = re.compile(r"[^\W_]+")
INNER_WORD = re.compile(INNER)


def snippet(text: str, stems: frozenset[str]) -> dict[str, Any]:
    """The stretch of `text` with the most words of the given stems, and where in it they stand."""
    marks = _marks(text, stems) if stems else []
    start = 0
    if marks and len(text) > SNIPPET_CHARS:
        starts = [max(0, first - 40) for first, _ in marks]
        start = max(starts, key=lambda at: sum(at <= first and last <= at + SNIPPET_CHARS for first, last in marks))
        start = min(start, len(text) - SNIPPET_CHARS)
        space = text.find(" ", start, start + 30)
        start = space + 1 if 0 < start < space + 1 else start
    cut = text[start : start + SNIPPET_CHARS]
    return {
        "text": cut,
        "highlights": [[first - start, last - start] for first, last in marks if start <= first and last <= start + len(cut)],
    }


def _marks(text: str, stems: frozenset[str]) -> list[tuple[int, int]]:
    """Where in `text` the words of the given stems, or that begin with a prefix among them, stand."""
    if text.isascii():
        lowered = text.lower()
        return sorted({span for each in stems for span in _spans(text, lowered, each)})
    prefixes = tuple(each[:-1] for each in stems if each.endswith("*"))
    spans: list[tuple[int, int]] = []
    for match in WORD.finditer(text):
        if (run := UNSPACED.search(match[0])) is None:
            word = match[0].lower()
            if (common := stem(word)) in stems or (prefixes and (word.startswith(prefixes) or common.startswith(prefixes))):
                spans.append(match.span())
            continue
        for start in range(match.start() + run.start(), match.end()):
            if text[start : start + 2] in stems:
                # Pairs overlap; a stretch of them is one mark.
                begin = spans.pop()[0] if spans and spans[-1][1] > start else start
                spans.append((begin, min(start + 2, match.end())))
    return spans


def _spans(text: str, lowered: str, common: str) -> Iterator[tuple[int, int]]:
    """Where in `text` words, or words inside names, with the stem `common` stand, or with that prefix where it ends in a star."""
    is_prefix = common.endswith("*")
    begin = common[:-1] if is_prefix else beginning(common)
    start = lowered.find(begin)
    while start >= 0:
        is_begun = not text[max(0, start - 1) : start].isalnum()
        for words in (WORD, INNER_WORD) if is_begun else (INNER_WORD,) if text[start].isupper() else ():
            word = words.match(text, start)
            if word is not None and (is_prefix or stem(word[0].lower()) == common):
                yield word.span()
                break
        start = lowered.find(begin, start + len(begin))
