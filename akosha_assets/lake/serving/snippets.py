"""The stretch of a text that an answer shows, and where in it the words of the question stand."""

import re
from collections.abc import Iterator
from typing import Any

from akosha_assets.lake.serving.words import INNER, UNSPACED, beginning, spans, stem, words

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
    found: list[tuple[int, int]] = []
    end = 0
    for run in UNSPACED.finditer(text):
        found += [*_word_marks(text, end, run.start(), stems), *_pair_marks(text, run, stems)]
        end = run.end()
    return [*found, *_word_marks(text, end, len(text), stems)]


def _word_marks(text: str, start: int, stop: int, stems: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Where between `start` and `stop` words, or words inside names, stand that are meant."""
    prefixes = tuple(each[:-1] for each in stems if each.endswith("*"))

    def is_meant(first: int, last: int) -> bool:
        return any(stem(word) in stems or (prefixes and word.startswith(prefixes)) for word in words(text[first:last]))

    for first, last in spans(text, start, stop):
        if is_meant(first, last):
            yield first, last
        elif text[first:last].isascii() and not text[first + 1 : last].islower():
            yield from (inner.span() for inner in INNER_WORD.finditer(text, first, last) if is_meant(*inner.span()))


def _pair_marks(text: str, run: re.Match[str], stems: frozenset[str]) -> list[tuple[int, int]]:
    """Where in a run without blanks pairs of letters stand that are meant. Pairs overlap; a stretch of them is one mark."""
    marks: list[tuple[int, int]] = []
    for start in range(run.start(), run.end()):
        pair = text[start : min(start + 2, run.end())]
        # Letters of some scripts, as of Thai, are signs in between, at which words of the index end.
        if pair in stems or (not pair.isalpha() and (said := words(pair)) and stems.issuperset(said)):
            begin = marks.pop()[0] if marks and marks[-1][1] > start else start
            marks.append((begin, start + len(pair)))
    return marks


def _spans(text: str, lowered: str, common: str) -> Iterator[tuple[int, int]]:
    """Where in `text` words, or words inside names, with the stem `common` stand, or with that prefix where it ends in a star."""
    is_prefix = common.endswith("*")
    begin = common[:-1] if is_prefix else beginning(common)
    start = lowered.find(begin)
    while start >= 0:
        is_begun = not text[max(0, start - 1) : start].isalnum()
        for pattern in (WORD, INNER_WORD) if is_begun else (INNER_WORD,) if text[start].isupper() else ():
            word = pattern.match(text, start)
            if word is not None and (is_prefix or stem(word[0].lower()) == common):
                yield word.span()
                break
        start = lowered.find(begin, start + len(begin))
