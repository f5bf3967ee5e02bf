"""The words of the keyword index, and which of them are forms of one word: fails, failed and failing of fail.

An index of stems costs more than the index of words, so a query searches for all forms instead.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import tantivy

from akosha_assets.lake.serving.text.analysis import stem, stem_prefix

# The most frequent words with a prefix that are checked for being forms.
CHECKED_WORDS = 1_000
# The most frequent forms of a word, which a query searches for.
MOST_FORMS = 16
SHORTEST_PREFIX = 2
# The longest ending of English words.
LONGEST_ENDING = 9
CACHED_WORDS = 4096


@dataclass(frozen=True, slots=True)
class Form:
    """A word of the index and the number of rows that contain it."""

    word: str
    rows: int


class Vocabulary:
    """The words of one field in one snapshot of the index."""

    def __init__(self, searcher: tantivy.Searcher, field: str):
        self._searcher, self._field = searcher, field
        self.rows: int = searcher.num_docs
        self.forms = lru_cache(CACHED_WORDS)(self._forms)

    def weight(self, rows: int) -> float:
        """The inverse document frequency of BM25 of a word in `rows` rows; above 0 for any word.

        Removed rows still count for a word until their segment is merged, so `rows` may exceed all rows.
        """
        return math.log1p((max(self.rows, rows) - rows + 0.5) / (rows + 0.5))

    def rows_with(self, word: str) -> int:
        """The number of rows that contain `word` itself."""
        rows: int = self._searcher.doc_freq(self._field, word)
        return rows

    def _forms(self, word: str) -> tuple[Form, ...]:
        """Words of the index with the stem of `word`: `word` itself first, then the most frequent."""
        common = stem(word)
        prefix = stem_prefix(common)
        if not word.isalpha() or len(prefix) < SHORTEST_PREFIX:
            rows = self.rows_with(word)
            return (Form(word, rows),) if rows else ()
        candidates = self._searcher.terms_with_prefix(self._field, prefix, limit=CHECKED_WORDS)
        longest = len(common) + LONGEST_ENDING
        forms = [
            Form(other, rows)
            for other, rows in candidates
            if len(other) <= longest and other.isalpha() and stem(other) == common
        ]
        if all(form.word != word for form in forms) and (rows := self.rows_with(word)):
            forms.append(Form(word, rows))
        return tuple(sorted(forms, key=lambda form: (form.word != word, -form.rows))[:MOST_FORMS])
