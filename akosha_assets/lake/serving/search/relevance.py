"""How likely it is that a result is about the question: 0..1, comparable between questions and modes.

A score orders the results of one question; any question has a best one. Relevance compares a result with what any row
of the lake would reach: the cosine with that of an average row, and the words with how rare they are.
"""

import math
from dataclasses import dataclass

from akosha_assets.lake.serving.query import Question
from akosha_assets.lake.serving.search.query_vector import QueryVectors
from akosha_assets.lake.serving.search.ranking import Hit
from akosha_assets.lake.serving.snapshot import Snapshot
from akosha_assets.lake.serving.text.analysis import stem, tokenize

# Words of the first characters of a text count; those further on only if keywords found the text.
COUNTED_CHARS = 16_384


@dataclass(frozen=True)
class Calibration:
    """Weights of the scaled cosine and of the share of words, and their sum at the line."""

    semantic: float
    words: float
    line: float
    # How fast relevance rises with the sum.
    steepness: float = 12.0

    def relevance(self, semantic: float, words: float) -> float:
        """0..1, `CLOSE` at the line."""
        total = self.semantic * semantic + self.words * words
        return 1 / (1 + math.exp(-self.steepness * (total - self.line)))


# By what is known of a result. `akosha bench relevance` prints what each line loses, and what is wrongly close.
BOTH = Calibration(0.6, 0.4, 0.285)
ONLY_SEMANTIC = Calibration(1.0, 0.0, 0.266)
ONLY_WORDS = Calibration(0.0, 1.0, 0.31)


@dataclass(frozen=True, kw_only=True)
class RelevanceScale:
    """What the results of one question are compared with."""

    # The inverse document frequency of each stem that the question looks for.
    weights: dict[str, float]
    # The keyword score of a row that has every word of the question once; 0 if the question has no words.
    full_score: float
    # The cosine of the question with an average row; None without a vector.
    background: float | None

    @classmethod
    def of(cls, snapshot: Snapshot, question: Question, query: QueryVectors | None) -> "RelevanceScale":
        """The scale of `question`; `query` is None if it was not ranked by vector."""
        return cls(
            weights=snapshot.keywords.word_weights(question.parsed),
            full_score=snapshot.keywords.full_score(question.parsed),
            background=None if query is None else query.background(snapshot),
        )

    def relevance(self, hit: Hit, text: str) -> float:
        """The relevance of `hit`, which has `text`."""
        cosine, words = hit.scores.get("semantic"), self._words(hit, text)
        if cosine is None or self.background is None:
            return ONLY_WORDS.relevance(0.0, words)
        scaled = min(1.0, max(0.0, (cosine - self.background) / (1 - self.background)))
        if not self.weights:
            return ONLY_SEMANTIC.relevance(scaled, 0.0)
        return BOTH.relevance(scaled, words)

    def _words(self, hit: Hit, text: str) -> float:
        """The share of the question's words in `text`, each counted by how rare it is."""
        score = hit.scores.get("keyword", 0.0)
        if not self.weights:
            # Only prefixes, names of fields and excluded words: every row that was found matches.
            return float(score > 0)
        stems = {stem(word) for word in tokenize(text[:COUNTED_CHARS])}
        covered = sum(weight for word, weight in self.weights.items() if word in stems)
        by_score = score / self.full_score if self.full_score else 0.0
        return min(1.0, max(covered / sum(self.weights.values()), by_score))
