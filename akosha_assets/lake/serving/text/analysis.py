"""Splits text into words for the keyword index, queries and highlights. Knows no rows and no index.

A word ends at any character that is not a letter or digit, so paths, snake_case and error strings are split. Accents
are removed. Scripts without spaces between words are split into overlapping pairs of letters (bigrams), so any part of
them is found as a phrase.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
from tantivy import Filter, TextAnalyzer, TextAnalyzerBuilder, Tokenizer

# Longer tokens are not indexed; a hash of 512 bits in hexadecimal digits still is.
LONGEST_TOKEN_BYTES = 200
# Minimum cost of one step of a walk along names, in bytes that a pass over the data reads in the same time.
STEP_WORK = 256
# A run of letters written without spaces: Chinese, Japanese, Korean, Thai, Lao, Burmese, Khmer.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]+"
)
# Combining accents of Latin, Greek and Cyrillic letters, as in file names of macOS.
ACCENTS = re.compile("[\u0300-\u036f]+")
# First bytes in UTF-8: of combining accents and of Greek and Cyrillic letters, and of letters written without spaces,
# except the byte of dashes and quotation marks.
FIRST_ACCENT_BYTE, LAST_ACCENT_BYTE = 0xCC, 0xD3
FIRST_UNSPACED_BYTE, LAST_UNSPACED_BYTE, PUNCTUATION_BYTE = 0xE0, 0xEF, 0xE2
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
AS_WRITTEN = TextAnalyzerBuilder(Tokenizer.simple()).build()


def tokenize(text: str) -> list[str]:
    """The words of `text` in lower case, in order."""
    return list(ANALYZERS["words"].analyze(fold_and_bigram(text)))


def spans(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The start and end of each word of `text` between `start` and `stop`."""
    begin = end = at = start
    for word in AS_WRITTEN.analyze(text[start:stop]):
        # Search from the end of the last word, not of its accents: some accents (iota subscript) are tokens.
        first = text.index(word, at)
        at = first + len(word)
        if first > end:
            if end > begin:
                yield begin, end
            begin = first
        if at > end:
            # A combining accent does not end a word.
            accents = ACCENTS.match(text, at, stop)
            end = accents.end() if accents else at
    if end > begin:
        yield begin, end


def fold_and_bigram(text: str) -> str:
    """`text` without accents, and with runs of unspaced scripts as bigrams separated by spaces."""
    if text.isascii():
        return text
    plain = unicodedata.normalize("NFC", ACCENTS.sub("", unicodedata.normalize("NFD", text)))
    return UNSPACED.sub(_pairs, plain)


def fold_and_bigram_texts(column: pa.StringArray) -> list[str]:
    """`fold_and_bigram` of each text; only texts that have such bytes are touched."""
    texts: list[str] = column.to_pylist()
    data, offsets = _bytes(column)
    at = np.flatnonzero(data >= FIRST_ACCENT_BYTE)
    is_unspaced = (data[at] >= FIRST_UNSPACED_BYTE) & (data[at] <= LAST_UNSPACED_BYTE) & (data[at] != PUNCTUATION_BYTE)
    at = at[(data[at] <= LAST_ACCENT_BYTE) | is_unspaced]
    for row in set((np.searchsorted(offsets, at, "right") - 1).tolist()):
        texts[row] = fold_and_bigram(texts[row])
    return texts


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
    """The words inside a name such as parseConfig, in lower case; none for a name that is not ASCII."""
    return set(tokenize(re.sub(INNER, r" \1 ", name))) if name.isascii() else set()


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
