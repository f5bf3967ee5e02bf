"""Which words stand in the keyword index, and which of them are forms of one: fails, failed and failing of fail.

An index of stems beside that of words costs more than the words themselves, so a question looks for all forms instead.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import tantivy

from akosha_assets.lake.serving.text.analysis import stem, stem_prefix

# More words than this with one beginning, and the rarest of them are not looked at.
LOOKED_AT = 1_000
# The most frequent forms of a word, which are looked for.
MOST_FORMS = 16
SHORTEST_BEGINNING = 2
# What English puts after a stem is no longer than this.
LONGEST_ENDING = 9
KEPT_WORDS = 4096


@dataclass(frozen=True, slots=True)
class Form:
    """A word of the index and how many rows hold it."""

    word: str
    rows: int


class Vocabulary:
    """The words of one field at one instant."""

    def __init__(self, searcher: tantivy.Searcher, field: str):
        self._searcher, self._field = searcher, field
        self.rows: int = searcher.num_docs
        self.forms = lru_cache(KEPT_WORDS)(self._forms)

    def weight(self, rows: int) -> float:
        """How much a word that `rows` rows hold tells of a row, as BM25 counts it: above 0 for any word.

        Rows that left are counted among those of a word until their segment is merged, so these may be more than all.
        """
        return math.log1p((max(self.rows, rows) - rows + 0.5) / (rows + 0.5))

    def _forms(self, word: str) -> tuple[Form, ...]:
        """Words of the index with the stem of `word`, the most frequent first; none where no row has any."""
        common = stem(word)
        begin = stem_prefix(common)
        if not word.isalpha() or len(begin) < SHORTEST_BEGINNING:
            rows = self._searcher.doc_freq(self._field, word)
            return (Form(word, rows),) if rows else ()
        near = self._searcher.terms_with_prefix(self._field, begin, limit=LOOKED_AT)
        longest = len(common) + LONGEST_ENDING
        found = [
            Form(other, rows)
            for other, rows in near
            if len(other) <= longest and other.isalpha() and stem(other) == common
        ]
        if all(form.word != word for form in found) and (rows := self._searcher.doc_freq(self._field, word)):
            found.append(Form(word, rows))
        return tuple(sorted(found, key=lambda form: (form.word != word, -form.rows))[:MOST_FORMS])
