"""How text falls into words, for the keyword index, for questions and for highlights. Knows no rows and no index.

Words end at anything that is no letter or digit, so paths, snake_case and error strings fall into theirs. Accents are
left out. Scripts that put no blanks between words fall into pairs of letters, so that any stretch of them is found as a
phrase.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
from tantivy import Filter, TextAnalyzer, TextAnalyzerBuilder, Tokenizer

# A hash of 512 bits in hexadecimal digits is a word; what is longer is none.
LONGEST_TOKEN_BYTES = 200
# What one step of a walk along names takes at least, in bytes that a pass over the data reads in the same time.
STEP_WORK = 256
# A run of letters that are written without blanks: Chinese, Japanese, Korean, Thai, Lao, Burmese, Khmer.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]+"
)
# Accents of Latin, Greek and Cyrillic letters, where they stand by themselves: file names of macOS have them so.
ACCENTS = re.compile("[\u0300-\u036f]+")
# In UTF-8 such accents, and letters of Greek and Cyrillic, begin with a byte between the first two, and letters without
# blanks with one between the others, except the one that dashes and quotation marks begin with.
FIRST_ACCENT_BYTE, LAST_ACCENT_BYTE = 0xCC, 0xD3
FIRST_UNSPACED_BYTE, LAST_UNSPACED_BYTE, PUNCTUATION_BYTE = 0xE0, 0xEF, 0xE2
# The last letters of a stem that not every form has: happy and happiness, hoping and hope, sensible and sensibility.
CHANGING = ("bl", "i", "e")
# What a word inside a name looks like. A name of several words written as one is parseConfig, ModuleNotFoundError or
# HTTPServer.
INNER = "([A-Z]?[a-z0-9]+)"
# What no sentence has: foo_bar, src/foo, settings.py, std::sort, parseConfig, HTTPServer.
NAME = re.compile(r"\w[_/\\:]+\w|\w\.[a-z]{2}|[a-z][A-Z]|[A-Z]{2}[a-z]")
# What a byte of a text is in a name.
OTHER, CAPITAL, SMALL, DIGIT = 0, 1, 2, 3
CAPITALS = 26
CHARACTERS = np.zeros(256, np.uint8)
for _first, _count, _kind in (("A", CAPITALS, CAPITAL), ("a", 26, SMALL), ("0", 10, DIGIT)):
    CHARACTERS[ord(_first) : ord(_first) + _count] = _kind
# Left out of a question that has other words: they stand in most texts and say little of what one is about.
STOP_WORDS = frozenset(
    """
    a about after all also am an and any are as at be because been before being but by can could did do does for from had has have
    he her his how i if in into is it its just me my no nor not of off on or our out over she should so such than that the their
    them then there these they this to too up very was we were what when where which while who why will with would you your
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


# `stems` has one form for `fails`, `failed` and `failing`.
ANALYZERS = {
    "words": _analyzer(Tokenizer.simple()),
    "stems": _analyzer(Tokenizer.simple(), Filter.stemmer("english")),
}
AS_WRITTEN = TextAnalyzerBuilder(Tokenizer.simple()).build()


def tokenize(text: str) -> list[str]:
    """The words of `text`, in lower case, in its order."""
    return list(ANALYZERS["words"].analyze(fold_and_bigram(text)))


def spans(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Where between `start` and `stop` the words of `text` stand."""
    begin = end = at = start
    for word in AS_WRITTEN.analyze(text[start:stop]):
        # From behind the word before, not behind its accents: some of them (the iota below a Greek letter) are words of
        # their own.
        first = text.index(word, at)
        at = first + len(word)
        if first > end:
            if end > begin:
                yield begin, end
            begin = first
        if at > end:
            # An accent that stands by itself ends no word.
            accents = ACCENTS.match(text, at, stop)
            end = accents.end() if accents else at
    if end > begin:
        yield begin, end


def fold_and_bigram(text: str) -> str:
    """`text` without accents, and with runs that have no blanks between words as their pairs of letters, each with the
    next.
    """
    if text.isascii():
        return text
    plain = unicodedata.normalize("NFC", ACCENTS.sub("", unicodedata.normalize("NFD", text)))
    return UNSPACED.sub(_pairs, plain)


def fold_and_bigram_texts(column: pa.StringArray) -> list[str]:
    """Each text as `spaced` gives it."""
    texts: list[str] = column.to_pylist()
    data, offsets = _bytes(column)
    at = np.flatnonzero(data >= FIRST_ACCENT_BYTE)
    is_unspaced = (data[at] >= FIRST_UNSPACED_BYTE) & (data[at] <= LAST_UNSPACED_BYTE) & (data[at] != PUNCTUATION_BYTE)
    at = at[(data[at] <= LAST_ACCENT_BYTE) | is_unspaced]
    for row in set((np.searchsorted(offsets, at, "right") - 1).tolist()):
        texts[row] = fold_and_bigram(texts[row])
    return texts


def _bytes(texts: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of all texts, and where in them each begins and the last ends."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    return np.frombuffer(texts.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]], offsets - offsets[0]


def _pairs(run: re.Match[str]) -> str:
    letters = run[0]
    return f" {' '.join(one + two for one, two in pairwise(letters)) or letters} "


def stem(word: str) -> str:
    """What `word` (one, in lower case) has in common with its other forms; one that is too long for a token is its own
    stem.
    """
    return word if len(word) > LONGEST_TOKEN_BYTES else _stem(word)


# Keys are bounded by `stem`: a cache of words of a megabyte each would fill the memory.
@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    return next(iter(ANALYZERS["stems"].analyze(word)), word)


def names_something(text: str) -> bool:
    """Whether a question is one word, or has an identifier, a path or a phrase in it: then its very words are what
    matters.
    """
    return len(text.split()) == 1 or '"' in text or NAME.search(text) is not None


def stem_prefix(common: str) -> str:
    """What the words with the stem `common` begin with."""
    return common[:-1] if len(common) > 1 and common.endswith(CHANGING) else common


def inner_words(name: str) -> set[str]:
    """The words inside a name such as parseConfig, in lower case. Names are written in ASCII."""
    return set(tokenize(re.sub(INNER, r" \1 ", name))) if name.isascii() else set()


def identifier_parts(texts: pa.StringArray) -> list[str | None]:
    """For each text the words inside the names in it that hold several, with blanks between; None where it has no such
    name.
    """
    found: list[str | None] = [None] * len(texts)
    data, offsets = _bytes(texts)
    rows, begins, ends = _names(data, offsets)
    if not len(rows):
        return found
    lengths = ends - begins
    # The bytes of all names one after the other, each name from its position in `first`.
    first = np.cumsum(lengths) - lengths
    letters = data[np.arange(int(lengths.sum())) + np.repeat(begins - first, lengths)]
    kinds = CHARACTERS[letters]
    before, after = np.roll(kinds, 1), np.roll(kinds, -1)
    after[first - 1] = OTHER
    is_begun = (kinds == CAPITAL) & ((before >= SMALL) | (after >= SMALL))
    is_begun[first] = True
    places = np.arange(len(letters)) + np.cumsum(is_begun)
    spaced = np.full(int(places[-1]) + 1, ord(" "), np.uint8)
    spaced[places] = letters
    of_row = np.flatnonzero(np.diff(rows, prepend=-1))
    bounds = np.append(places[first[of_row]] - 1, len(spaced)).astype(np.int32)
    inside = pa.StringArray.from_buffers(len(of_row), pa.py_buffer(bounds), pa.py_buffer(spaced)).to_pylist()
    for row, several in zip(rows[of_row].tolist(), inside, strict=True):
        found[row] = several
    return found


def _names(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, begin and end of each name of several words in `data`, whose texts begin at `offsets`.

    Capitals are few, so all but the first step looks at little of the text.
    """
    at = np.flatnonzero(data - np.uint8(ord("A")) < CAPITALS)
    before, after = CHARACTERS[data.take(at - 1, mode="clip")], CHARACTERS[data.take(at + 1, mode="clip")]
    at = at[(before >= SMALL) | ((before == CAPITAL) & (after == SMALL))]
    rows = np.searchsorted(offsets, at, "right") - 1
    # What stands before or after it counts in the same text only.
    is_inner = (at > offsets[rows]) & ((CHARACTERS[data[at - 1]] >= SMALL) | (at + 1 < offsets[rows + 1]))
    at, rows = at[is_inner], rows[is_inner]
    begins = _reached(data, at, offsets[rows], -1)
    is_first = np.diff(begins, prepend=-1) > 0
    at, rows = at[is_first], rows[is_first]
    return rows, begins[is_first], _reached(data, at, offsets[rows + 1] - 1, 1) + 1


def _reached(data: np.ndarray, at: np.ndarray, limits: np.ndarray, step: int) -> np.ndarray:
    """The farthest position in the direction of `step` with nothing but letters and digits from `at` to it, and no
    farther than its limit.
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
        # A walk from each capital of a long name takes the square of its length; a search for the end does not, but
        # reads all data.
        others = np.flatnonzero(CHARACTERS[data] == OTHER)
        following = np.searchsorted(others, reached[moving])
        if step > 0:
            reached[moving] = np.minimum(np.append(others, len(data))[following] - 1, limits[moving])
        else:
            reached[moving] = np.maximum(np.append(-1, others)[following] + 1, limits[moving])
    return reached
