"""Passages: long texts are cut, and each passage gets a vector of its own, since one vector describes little text well.

Knows tokens as character offsets only; `embeddings.py` has the tokenizer.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, Self

import numpy as np

# Tokens of one passage: with the special tokens of BERT the 256 that small sentence models are made for.
PASSAGE_TOKENS = 254
# Passages of one text. It bounds what a memory costs; the end of a longer text has no vector.
PASSAGES_MAX = 32
# Characters of a text that are cut: more than that many passages of ordinary text have.
CUT_MAX_CHARS = 65_536
# A text of so many bytes whose passages are not known has few more tokens than one vector describes.
UNCUT_MAX_BYTES = 1024

# The end of a line or of a sentence, with the space that follows it.
_BOUNDARY = re.compile(r"\n\s*|[.!?…][\"'”’)\]]*\s+|[。！？]")

# Start and end in a text.
Span = tuple[int, int]


class Cutter(Protocol):
    """What this module needs of `embeddings.Embedder`."""

    def passages(self, text: str) -> list[Span]:
        """Start and end of each passage, in characters."""


@dataclass(frozen=True, kw_only=True)
class CutTexts:
    """Some texts, cut into passages."""

    # The first passage of each text, (texts,): that of `vector`.
    first: list[str]
    # The other passages: those of the first text, then those of the second, …
    others: list[str]
    # (texts + 1,) int64: where those of each text begin in `others`.
    starts: np.ndarray
    # As the column `passage_ranges`, (texts,).
    ranges: list[bytes]

    @classmethod
    def cut(cls, cutter: Cutter, texts: Sequence[str]) -> Self:
        """The passages of `texts`."""
        spans = [cutter.passages(text) for text in texts]
        return cls(
            first=[text[start:end] for text, ((start, end), *_) in zip(texts, spans, strict=True)],
            others=[text[start:end] for text, (_, *rest) in zip(texts, spans, strict=True) for start, end in rest],
            starts=np.cumsum([0, *(len(of_text) - 1 for of_text in spans)]),
            ranges=[as_ranges(text, of_text) for text, of_text in zip(texts, spans, strict=True)],
        )

    def is_short(self, text: int) -> bool:
        """Whether the text at this position is one passage."""
        return bool(self.starts[text] == self.starts[text + 1])

    def split(self, stored: np.ndarray) -> list[bytes | None]:
        """The bytes of the other passages of each text, from an array with a row for each of `others`; None for none.

        As the columns `passages` and `passage_scales`.
        """
        starts = self.starts.tolist()
        return [stored[start:stop].tobytes() if start < stop else None for start, stop in pairwise(starts)]


def as_ranges(text: str, spans: Sequence[Span]) -> bytes:
    """Spans in characters of `text`, as the column `passage_ranges` has them: in bytes."""
    ends = np.array(spans, np.int64).ravel()
    places = np.unique(ends)
    pieces = [len(text[start:stop].encode()) for start, stop in pairwise([0, *places.tolist()])]
    in_bytes: np.ndarray = np.cumsum(pieces)[np.searchsorted(places, ends)]
    return in_bytes.astype("<i4").tobytes()


def span_in_characters(text: str, start: int, end: int) -> Span:
    """The characters of `text` at the bytes from `start` to `end`."""
    if text.isascii():
        return start, end
    encoded = text.encode()
    first = len(encoded[:start].decode(errors="ignore"))
    return first, first + len(encoded[start:end].decode(errors="ignore"))


def cut_passages(text: str, tokens: Sequence[Span], size: int = PASSAGE_TOKENS) -> list[Span]:
    """Start and end, in characters, of each passage: at most `PASSAGES_MAX`, each of at most `size` tokens.

    Both ascend; each passage starts before the last one ends, with an eighth of its tokens at most, so that a sentence
    that a cut divides is whole in one of both. A passage ends up to a quarter of its tokens earlier if a sentence or
    line ends there, else a word. `tokens`: start and end of each token of the first `CUT_MAX_CHARS`, in characters,
    ascending.
    """
    if len(tokens) <= size:
        return [(0, _end(text, tokens))]
    ends = {match.end() for match in _BOUNDARY.finditer(text, 0, tokens[-1][1])}
    passages: list[Span] = []
    first = 0
    while len(passages) < PASSAGES_MAX:
        start, last = tokens[first][0] if first else 0, first + size
        if last >= len(tokens):
            passages.append((start, _end(text, tokens)))
            break
        last = _choose(text, tokens, ends, range(last, last - max(1, size // 4), -1))
        passages.append((start, tokens[last][0]))
        first = _choose(text, tokens, ends, range(last - max(1, size // 8), last))
    return passages


def _choose(text: str, tokens: Sequence[Span], ends: set[int], candidates: range) -> int:
    """The first of the tokens `candidates` that begins a sentence or line, else the first that begins a word, else the
    first.
    """
    starts = [(token, tokens[token][0]) for token in candidates]
    sentence = next((token for token, start in starts if start in ends), None)
    if sentence is not None:
        return sentence
    return next((token for token, start in starts if text[start - 1 : start].isspace()), candidates[0])


def _end(text: str, tokens: Sequence[Span]) -> int:
    """The end of the text if all of it was cut into tokens, else that of the last token."""
    if len(text) <= CUT_MAX_CHARS:
        return len(text)
    return tokens[-1][1] if tokens else CUT_MAX_CHARS
