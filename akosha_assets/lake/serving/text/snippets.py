"""Snippets: the part of a text that a result shows, and the positions of the query's words in it.

Texts come from outside and may be long or crafted to be slow: every step takes linear time, and only the first
`SEARCHED_CHARS` of a text are searched.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from akosha_assets.lake.serving.text.analysis import INNER, UNSPACED, spans, stem, stem_prefix, words_of_plain
from akosha_assets.lake.serving.text.folding import FoldedText, has_seams
from akosha_assets.lake.serving.text.terminal_codes import has_codes
from akosha_assets.lake.serving.time_limit import check_time_limit

SNIPPET_CHARS = 240
# Characters of context before the first mark, and how far the start may move to the next space.
CONTEXT_CHARS, BLANK_CHARS = 40, 30
SEARCHED_CHARS = 1 << 20
# Marks to find at most: more than a snippet can show, to choose the best part of the text.
MARKS_MAX = 2_000
# With more stems than this, the text is searched word by word instead of stem by stem.
STEMS_FEW = 24
# Steps between two checks of the time limit.
CHECKED_STEPS = 4096
WORD = re.compile(r"[^\W_]+")
INNER_WORD = re.compile(INNER)
Span = tuple[int, int]


def snippet(text: str, stems: frozenset[str]) -> dict[str, Any]:
    """The part of `text` with the most words of the given stems, and their positions in it.

    `highlights` are pairs of start and end in the part, ascending and disjoint.
    """
    marks = _merged(_marks(text[:SEARCHED_CHARS], stems)) if stems else []
    start = _start(text, marks)
    cut = text[start : start + SNIPPET_CHARS]
    inside = ([first - start, last - start] for first, last in marks if start <= first and last <= start + len(cut))
    return {"text": cut, "highlights": list(inside)}


def plain_snippet(text: str) -> dict[str, Any]:
    """The beginning of `text`, without highlights."""
    return {"text": text[:SNIPPET_CHARS], "highlights": []}


def _start(text: str, marks: list[Span]) -> int:
    """The start of the part with the most marks; the earliest of equals."""
    if not marks or len(text) <= SNIPPET_CHARS:
        return 0
    lasts = [last for _, last in marks]
    best = start = 0
    for place, (first, _) in enumerate(marks):
        at = max(0, first - CONTEXT_CHARS)
        # The marks from this one on that end inside; marks in the context before it are not counted.
        count = bisect_right(lasts, at + SNIPPET_CHARS) - place
        if count > best:
            best, start = count, at
    start = min(start, len(text) - SNIPPET_CHARS)
    blank = text.find(" ", start, start + BLANK_CHARS)
    return blank + 1 if 0 < start < blank + 1 else start


def _merged(marks: Iterable[Span]) -> list[Span]:
    """The marks in order, overlapping ones merged: a mark within a mark must not show its letters twice."""
    merged: list[Span] = []
    for first, last in sorted(islice(marks, MARKS_MAX)):
        if merged and first < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _marks(text: str, stems: frozenset[str]) -> Iterator[Span]:
    """The positions in `text` of words with one of the stems, or with a prefix (a stem that ends in a star)."""
    is_coded = has_codes(text)
    if text.isascii() and not is_coded and len(stems) <= STEMS_FEW:
        lowered = text.lower()
        for each in stems:
            yield from islice(_stem_marks(text, lowered, each), MARKS_MAX // len(stems) + 1)
        return
    for is_separated in (False, True) if is_coded or has_seams(text) else (False,):
        folded = FoldedText.of(text, is_separated=is_separated)
        yield from (folded.origin(*mark) for mark in _plain_marks(folded.text, stems))


def _plain_marks(text: str, stems: frozenset[str]) -> Iterator[Span]:
    """The positions in a plain text of matching words and bigrams."""
    end = 0
    for run in UNSPACED.finditer(text):
        yield from _word_marks(text, end, run.start(), stems)
        yield from _pair_marks(text, run, stems)
        end = run.end()
    yield from _word_marks(text, end, len(text), stems)


def _word_marks(text: str, start: int, stop: int, stems: frozenset[str]) -> Iterator[Span]:
    """The positions between `start` and `stop` of matching words and of matching words inside names."""
    prefixes = tuple(each[:-1] for each in stems if each.endswith("*"))

    def is_match(first: int, last: int) -> bool:
        return any(
            stem(word) in stems or (prefixes and word.startswith(prefixes)) for word in words_of_plain(text[first:last])
        )

    for step, (first, last) in enumerate(spans(text, start, stop)):
        if step % CHECKED_STEPS == 0:
            check_time_limit()
        if is_match(first, last):
            yield first, last
        elif text[first:last].isascii() and not text[first + 1 : last].islower():
            yield from (inner.span() for inner in INNER_WORD.finditer(text, first, last) if is_match(*inner.span()))


def _pair_marks(text: str, run: re.Match[str], stems: frozenset[str]) -> Iterator[Span]:
    """The positions of matching bigrams and letters in a run of an unspaced script. They overlap."""
    for start in range(run.start(), run.end()):
        if start % CHECKED_STEPS == 0:
            check_time_limit()
        pair = text[start : min(start + 2, run.end())]
        if pair in stems:
            yield start, start + len(pair)
        elif f"{pair[0]}*" in stems:
            yield start, start + 1


def _stem_marks(text: str, lowered: str, common: str) -> Iterator[Span]:
    """The positions in an ASCII `text` of words, also inside names, with one stem or prefix (ends in a star)."""
    is_prefix = common.endswith("*")
    prefix = common[:-1] if is_prefix else stem_prefix(common)
    start, step = lowered.find(prefix), 0
    while start >= 0:
        step += 1
        if step % CHECKED_STEPS == 0:
            check_time_limit()
        is_word_start = not text[max(0, start - 1) : start].isalnum()
        for pattern in (WORD, INNER_WORD) if is_word_start else (INNER_WORD,) if text[start].isupper() else ():
            word = pattern.match(text, start)
            if word is not None and (is_prefix or stem(word[0].lower()) == common):
                yield word.span()
                break
        start = lowered.find(prefix, start + len(prefix))
