"""Splits text into words for the keyword index, queries and highlights. Knows no rows and no index.

A word ends at any character that is not a letter or digit, so paths, snake_case and error strings are split. Characters
are mapped to one form (`folding`), and codes for terminals are removed (`terminal_codes`). Scripts without spaces
between words are split into overlapping pairs of letters (bigrams), so any part of them is found as a phrase.

Words that a text has only in another reading follow in the index after a gap, so that phrases do not see them: parts of
camel case names, parts of words that codes or zero-width spaces join, addresses of links, pictures, and the last letter
of each unspaced run, so that the rows with one letter are those with a word that begins with it.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from tantivy import Filter, TextAnalyzer, TextAnalyzerBuilder, Tokenizer

from akosha_assets.lake.serving.text import terminal_codes
from akosha_assets.lake.serving.text.folding import AS_WRITTEN, has_seams, plain, plain_separated

# Changes with the words of any text; a keyword index of another version is built again.
VERSION = f"2/unicode-{unicodedata.unidata_version}"
# Longer tokens are not indexed; a hash of 512 bits in hexadecimal digits still is.
LONGEST_TOKEN_BYTES = 200
# Minimum cost of one step of a walk along names, in bytes that a pass over the data reads in the same time.
STEP_WORK = 256
# Letters of scripts that are written without spaces, without their digits and punctuation: Thai, Lao, Burmese, Hangul,
# Khmer, Tai, kana, Chinese.
UNSPACED_LETTERS = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u0edc-\u0edf\u1000-\u103f\u1050-\u108f\u109a-\u109d\u1100-\u11ff"
    "\u1780-\u17d3\u17d7\u17dc\u1950-\u19c9\u1a20-\u1a7c\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa76\uaa7a-\uaa7f"
    "\uac00-\ud7ff\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U000323af"
)
UNSPACED = re.compile(f"[{UNSPACED_LETTERS}]+")
LAST_LETTER = re.compile(f"(?<=[{UNSPACED_LETTERS}])[{UNSPACED_LETTERS}](?![{UNSPACED_LETTERS}])")
# Characters that begin with these bytes in UTF-8 have the same words without folding; see `_rows_to_fold`.
FIRST_OTHER_BYTE, LATIN_BYTE, SIGN_BYTE, SYMBOL_BYTE = 0xC2, 0xC3, 0xC2, 0xE2
# Endings of a stem that not every form has: happy and happiness, hoping and hope, sensible and sensibility.
CHANGING = ("bl", "i", "e")
# A word inside a camel case name such as parseConfig, ModuleNotFoundError or HTTPServer.
INNER = "([A-Z]?[a-z0-9]+)"
# Classes of bytes in a name.
OTHER, CAPITAL, SMALL, DIGIT = 0, 1, 2, 3
CAPITALS = 26
CHARACTERS = np.zeros(256, np.uint8)
for _first, _count, _kind in (("A", CAPITALS, CAPITAL), ("a", 26, SMALL), ("0", 10, DIGIT)):
    CHARACTERS[ord(_first) : ord(_first) + _count] = _kind
# Whether a byte after a bracket may belong to a code.
BEGINS_CODE = np.zeros(256, bool)
BEGINS_CODE[list(terminal_codes.AFTER_BRACKET)] = True
# Left out of a query that has other words: most texts contain them.
STOP_WORDS = frozenset(
    """
    a about after all also am an and any are as at be because been before being but by can could did do does for from
    had has have he her his how i if in into is it its just me my no nor not of off on or our out over she should so
    such than that the their them then there these they this to too up very was we were what when where which while
    who why will with would you your
    """.split()
)


def _analyzer(tokenizer: Tokenizer, *filters: Filter) -> TextAnalyzer:
    builder = (
        TextAnalyzerBuilder(tokenizer)
        .filter(Filter.remove_long(LONGEST_TOKEN_BYTES))
        .filter(Filter.ascii_fold())
        .filter(Filter.lowercase())
    )
    for each in filters:
        builder = builder.filter(each)
    return builder.build()


# `stems` maps `fails`, `failed` and `failing` to one token.
ANALYZERS = {
    "words": _analyzer(Tokenizer.simple()),
    "stems": _analyzer(Tokenizer.simple(), Filter.stemmer("english")),
}


def tokenize(text: str) -> list[str]:
    """The words of `text` in lower case, in order; of a text that has none as displayed, those of its other reading."""
    return words(text) or extra_words(text)


def words(text: str) -> list[str]:
    """The words of `text` as displayed, in lower case, in order."""
    return words_of_plain(plain(terminal_codes.displayed(text)))


def words_of_plain(text: str) -> list[str]:
    """The words of a text that is in plain form, in lower case, in order."""
    return list(ANALYZERS["words"].analyze(_bigrams(text)))


def extra_words(text: str) -> list[str]:
    """The words that `text` has only in another reading, and the last letters of its unspaced runs."""
    return _extra_words(text, plain(terminal_codes.displayed(text)))


def _extra_words(text: str, shown: str) -> list[str]:
    """`extra_words` of a text with the plain form `shown`."""
    extra = [] if shown.isascii() else sorted(set(LAST_LETTER.findall(shown)))
    if terminal_codes.has_codes(text) or has_seams(text):
        known = set(words_of_plain(shown))
        separated = words_of_plain(plain_separated(terminal_codes.separated(text)))
        extra += [word for word in separated if word not in known]
    return extra


def is_single_letter(word: str) -> bool:
    """Whether a word is one letter of an unspaced script, which means every word that begins with it."""
    return len(word) == 1 and UNSPACED.match(word) is not None


def spans(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The start and end of each word of a plain `text` between `start` and `stop`."""
    at = start
    for word in AS_WRITTEN.analyze(text[start:stop]):
        first = text.index(word, at)
        at = first + len(word)
        yield first, at


def _bigrams(text: str) -> str:
    """A plain text in one case, with runs of unspaced scripts as bigrams separated by spaces."""
    return text if text.isascii() else UNSPACED.sub(_pairs, text.casefold())


class IndexedTexts(NamedTuple):
    """What the index gets of each text: its words, those inside its names, and those of another reading."""

    texts: list[str]
    inner: list[str | None]
    # By row; most rows have none.
    extra: dict[int, str]


def indexed_texts(column: pa.StringArray) -> IndexedTexts:
    """What the index gets of each text; only texts with bytes that need it are folded."""
    texts: list[str] = column.to_pylist()
    inner = identifier_parts(column)
    rows = _rows_to_fold(texts, *_bytes(column))
    shown = [plain(terminal_codes.displayed(texts[row])) for row in rows]
    extra = {}
    for row, form, parts in zip(rows, shown, identifier_parts(pa.array(shown, pa.string())), strict=True):
        if extra_of_row := _extra_words(texts[row], form):
            extra[row] = " ".join(extra_of_row)
        texts[row], inner[row] = _bigrams(form), parts
    return IndexedTexts(texts, inner, extra)


def _rows_to_fold(texts: list[str], data: np.ndarray, offsets: np.ndarray) -> list[int]:
    """The rows whose words may change by folding. `data`, `offsets`: as `_bytes` returns them."""
    at = np.flatnonzero(data >= FIRST_OTHER_BYTE)
    first, second, third = data[at], data.take(at + 1, mode="clip"), data.take(at + 2, mode="clip")
    # Letters of Latin-1, which the index maps to ASCII; no-break space, section sign, guillemets, degree, middle dot.
    is_same = (first == LATIN_BYTE) | ((first == SIGN_BYTE) & np.isin(second, (0xA0, 0xA7, 0xAB, 0xB0, 0xB7, 0xBB)))
    # Dashes, quotation marks, bullets and ellipses; arrows; box drawing and blocks.
    is_same |= (first == SYMBOL_BYTE) & (
        ((second == 0x80) & (third >= 0x90) & (third <= 0xA6))
        | ((second == 0x86) & (third >= 0x90))
        | ((second >= 0x94) & (second <= 0x96))
    )
    found = [at[~is_same], *(np.flatnonzero(data == byte) for byte in terminal_codes.CONTROL_BYTES)]
    rows = set((np.searchsorted(offsets, np.concatenate(found), "right") - 1).tolist())
    brackets = np.flatnonzero(data == ord("["))
    brackets = brackets[BEGINS_CODE[data.take(brackets + 1, mode="clip")]]
    for row in set((np.searchsorted(offsets, brackets, "right") - 1).tolist()) - rows:
        if terminal_codes.has_codes(texts[row]):
            rows.add(row)
    return sorted(rows)


def _bytes(texts: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of all texts, (bytes,) uint8, and the offsets of the texts, (texts + 1,) int64."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    return np.frombuffer(texts.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]], offsets - offsets[0]


def _pairs(run: re.Match[str]) -> str:
    letters = run[0]
    return f" {' '.join(one + two for one, two in pairwise(letters)) or letters} "


def stem(word: str) -> str:
    """The stem of one word in lower case; a word that is too long for a token is its own stem."""
    return word if len(word) > LONGEST_TOKEN_BYTES else _stem(word)


# `stem` bounds the keys: a cache of words of one megabyte each would fill the memory.
@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    return next(iter(ANALYZERS["stems"].analyze(word)), word)


def stem_prefix(common: str) -> str:
    """The prefix that all words with the stem `common` share."""
    return common[:-1] if len(common) > 1 and common.endswith(CHANGING) else common


def inner_words(name: str) -> set[str]:
    """The words inside a name such as parseConfig, in lower case; none for a name whose plain form is not ASCII."""
    shown = plain(terminal_codes.displayed(name))
    return set(words_of_plain(re.sub(INNER, r" \1 ", shown))) if shown.isascii() else set()


def identifier_parts(texts: pa.StringArray) -> list[str | None]:
    """For each text the words inside its camel case names, separated by spaces; None if it has no such name."""
    parts: list[str | None] = [None] * len(texts)
    data, offsets = _bytes(texts)
    rows, begins, ends = _names(data, offsets)
    if not len(rows):
        return parts
    lengths = ends - begins
    # The bytes of all names, concatenated; `first` has the position of each name.
    first = np.cumsum(lengths) - lengths
    letters = data[np.arange(int(lengths.sum())) + np.repeat(begins - first, lengths)]
    kinds = CHARACTERS[letters]
    before, after = np.roll(kinds, 1), np.roll(kinds, -1)
    after[first - 1] = OTHER
    is_word_start = (kinds == CAPITAL) & ((before >= SMALL) | (after >= SMALL))
    is_word_start[first] = True
    places = np.arange(len(letters)) + np.cumsum(is_word_start)
    spaced = np.full(int(places[-1]) + 1, ord(" "), np.uint8)
    spaced[places] = letters
    of_row = np.flatnonzero(np.diff(rows, prepend=-1))
    bounds = np.append(places[first[of_row]] - 1, len(spaced)).astype(np.int32)
    words = pa.StringArray.from_buffers(len(of_row), pa.py_buffer(bounds), pa.py_buffer(spaced)).to_pylist()
    for row, words_of_row in zip(rows[of_row].tolist(), words, strict=True):
        parts[row] = words_of_row
    return parts


def _names(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, begin and end of each camel case name, each (names,) int64. `data`, `offsets`: as `_bytes` returns them.

    There are few capitals, so only the first step reads all data.
    """
    at = np.flatnonzero(data - np.uint8(ord("A")) < CAPITALS)
    before, after = CHARACTERS[data.take(at - 1, mode="clip")], CHARACTERS[data.take(at + 1, mode="clip")]
    at = at[(before >= SMALL) | ((before == CAPITAL) & (after == SMALL))]
    rows = np.searchsorted(offsets, at, "right") - 1
    # Only neighbours in the same text count.
    is_inner = (at > offsets[rows]) & ((CHARACTERS[data[at - 1]] >= SMALL) | (at + 1 < offsets[rows + 1]))
    at, rows = at[is_inner], rows[is_inner]
    begins = _walk(data, at, offsets[rows], -1)
    is_first = np.diff(begins, prepend=-1) > 0
    at, rows = at[is_first], rows[is_first]
    return rows, begins[is_first], _walk(data, at, offsets[rows + 1] - 1, 1) + 1


def _walk(data: np.ndarray, at: np.ndarray, limits: np.ndarray, step: int) -> np.ndarray:
    """The last letter or digit of the run that goes from each of `at` in the direction of `step`, up to its limit.

    `at`, `limits` and the result: (positions,) int64.
    """
    reached = at.copy()
    moving = np.flatnonzero(reached != limits)
    work = 0
    while len(moving):
        work += len(moving) + STEP_WORK
        if work > len(data):
            break
        moving = moving[CHARACTERS[data[reached[moving] + step]] != OTHER]
        reached[moving] += step
        moving = moving[reached[moving] != limits[moving]]
    if len(moving):
        # Walking from each capital of a long name takes the square of its length; a search for the ends reads all data
        # once.
        others = np.flatnonzero(CHARACTERS[data] == OTHER)
        following = np.searchsorted(others, reached[moving])
        if step > 0:
            reached[moving] = np.minimum(np.append(others, len(data))[following] - 1, limits[moving])
        else:
            reached[moving] = np.maximum(np.append(-1, others)[following] + 1, limits[moving])
    return reached
