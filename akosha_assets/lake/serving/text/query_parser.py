"""Turns a parsed question into queries of the keyword index. Runs none of them."""

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import tantivy
from tantivy import FieldType, Occur, Query

from akosha_assets.lake.errors import InvalidRequest
from akosha_assets.lake.serving.parts.part import Categories
from akosha_assets.lake.serving.query import Filters, ParsedQuery, Token
from akosha_assets.lake.serving.text.analysis import STOP_WORDS, inner_words, is_single_letter, stem
from akosha_assets.lake.serving.text.vocabulary import Form, Vocabulary

# A word in more than this share of the rows is left out of a query that has rarer words.
COMMON_SHARE = 0.2
# In an index of fewer rows no word is common.
COMMON_MIN_ROWS = 1_000
# Extra weight of the exact form of a word. Chosen by `akosha bench relevance`.
OWN_FORM = 0.5
# Each prefix is expanded over all words of the index, which takes longer than finding rows.
MOST_PREFIXES = 16
OCCUR_OF_SIGN = {"+": Occur.Must, "-": Occur.MustNot}

Clause = tuple[Occur, Query]


def mark(name: str, code: int | str) -> str:
    """The token of the field `marks` for a row with this code in the column `name`."""
    return f"{name}:{code}"


class QueryClauses:
    """The clauses of a query: words with their weights, phrases, and other queries."""

    def __init__(self, schema: tantivy.Schema):
        self.schema = schema
        self.words: dict[str, float] = {}
        self.phrases: list[Query] = []
        self.others: list[Query] = []

    def add(self, word: str, weight: float = 1.0) -> None:
        """Adds `weight` to the weight of a word."""
        self.words[word] = self.words.get(word, 0.0) + weight

    def without_phrases(self) -> list[Clause]:
        """All clauses but the phrases."""
        terms = ((Query.term_query(self.schema, "text", word), weight) for word, weight in self.words.items())
        plain = [term if weight == 1 else Query.boost_query(term, weight) for term, weight in terms]
        return [(Occur.Should, query) for query in plain + self.others]

    def with_phrases(self) -> list[Clause]:
        """All clauses."""
        return [*self.without_phrases(), *((Occur.Should, query) for query in self.phrases)]


@dataclass(frozen=True)
class QueryParser:
    """Builds queries for an index with this schema and vocabulary; `terms` has the codes of the field `marks`."""

    schema: tantivy.Schema
    vocabulary: Vocabulary
    terms: dict[str, Categories]

    def queries(self, query: ParsedQuery) -> list[Query]:
        """One or two queries whose merged hits are the results of `query`; a row that both find has its best score.

        Raises:
            InvalidRequest: too many words end in a star.
        """
        tokens = query.tokens
        if (prefixes := sum(token.is_prefix for token in tokens)) > MOST_PREFIXES:
            raise InvalidRequest("query", f"has {prefixes} words that end in *; expected at most {MOST_PREFIXES}")
        plain = [token for token in tokens if token.field == "text" and not token.sign and not token.is_phrase]
        ignored = self._ignored({word for token in plain for word in token.words})
        # One letter of an unspaced script means the words that begin with it, since the index has pairs of letters.
        letters = [at for at, token in enumerate(tokens) if token.words and is_single_letter(token.words[-1])]
        expanded = frozenset(letters[: MOST_PREFIXES - prefixes])
        optional, signed = QueryClauses(self.schema), []
        for at, token in enumerate(tokens):
            is_prefix = token.is_prefix or at in expanded
            if not token.sign:
                self._add_token(token, optional, ignored, is_prefix=is_prefix)
                continue
            own = QueryClauses(self.schema)
            self._add_token(token, own, frozenset(), is_prefix=is_prefix)
            # The words of a required identifier or path must be adjacent.
            if clauses := [(Occur.Should, query) for query in own.phrases] or own.without_phrases():
                signed.append((OCCUR_OF_SIGN[token.sign], Query.boolean_query(clauses)))
            elif token.words:
                # No row has it.
                signed.append((OCCUR_OF_SIGN[token.sign], Query.empty_query()))
        others = [*optional.without_phrases(), *signed]
        if optional.phrases and others:
            # With words alone tantivy skips rows that cannot reach the top; beside a phrase it scores every row with
            # any of the words. So one query finds the few rows with a phrase, and another all rows by the rest.
            phrases = Query.boolean_query([(Occur.Should, query) for query in optional.phrases])
            return [Query.boolean_query([(Occur.Must, phrases), *others]), Query.boolean_query(others)]
        clauses = [*optional.with_phrases(), *signed]
        if clauses and all(occur is Occur.MustNot for occur, _ in clauses):
            clauses.append((Occur.Must, Query.all_query()))
        return [Query.boolean_query(clauses)] if clauses else []

    def conditions(self, filters: Filters) -> list[Query]:
        """The queries that every row must match to pass the filters."""
        conditions = [self._equal(name, values) for name, values in filters.equals.items()]
        conditions += [Query.term_query(self.schema, "tags", tag) for tag in filters.tags]
        if filters.since_us is not None:
            conditions.append(Query.range_query(self.schema, "occurred_us", FieldType.Integer, filters.since_us, None))
        if filters.until_us is not None:
            conditions.append(
                Query.range_query(
                    self.schema, "occurred_us", FieldType.Integer, None, filters.until_us, include_upper=False
                )
            )
        if filters.importance_min is not None:
            # Rows store float32.
            least = float(np.float32(filters.importance_min))
            conditions.append(Query.range_query(self.schema, "importance", FieldType.Float, least, None))
        return conditions

    def highlights(self, query: ParsedQuery) -> frozenset[str]:
        """The stems of the words that a query searches for, and its prefixes, each with a star."""
        prefixes = {
            f"{token.words[-1]}*"
            for token in query.tokens
            if token.is_prefix and token.sign != "-" and token.field == "text" and token.words
        }
        words = query.words - self._ignored(query.words)
        letters = {f"{word}*" for word in words if is_single_letter(word)}
        return frozenset(stem(word) for word in words) | prefixes | letters

    def full_score(self, query: ParsedQuery) -> float:
        """The score of a row of average length with each word of `query` once. Words that no row has count too."""
        sought = self._sought(query)
        return sum(self._full_weight(word, forms) for word, forms in sought.items())

    def word_weights(self, query: ParsedQuery) -> dict[str, float]:
        """The inverse document frequency of each stem that `query` looks for; that of unknown words is the highest."""
        weights: dict[str, float] = {}
        for word, forms in self._sought(query).items():
            rows = sum(form.rows for form in forms) if forms else self.vocabulary.rows_with(word)
            weights[stem(word)] = self.vocabulary.weight(rows)
        return weights

    def _sought(self, query: ParsedQuery) -> dict[str, tuple[Form, ...]]:
        """The words of the text that a result should have, with their forms if they are inflected."""
        tokens = [
            token for token in query.tokens if token.field == "text" and token.sign != "-" and not token.is_prefix
        ]
        ignored = self._ignored({word for token in tokens for word in token.words})
        return {
            word: self.vocabulary.forms(word) if len(token.words) == 1 else ()
            for token in tokens
            for word in token.words
            if token.sign or token.is_phrase or word not in ignored
        }

    def _full_weight(self, word: str, forms: Sequence[Form]) -> float:
        """What a row with `word` scores: as one word with the rows of all `forms`, and more for its own form."""
        if not forms:
            return self.vocabulary.weight(self.vocabulary.rows_with(word))
        own = self.vocabulary.weight(forms[0].rows) if forms[0].word == word else 0.0
        return self.vocabulary.weight(sum(form.rows for form in forms)) + OWN_FORM * own

    def _ignored(self, words: Set[str]) -> frozenset[str]:
        """The words that a query need not search for because it has rarer ones."""
        rows = self.vocabulary.rows
        most = COMMON_SHARE * rows if rows >= COMMON_MIN_ROWS else rows
        common = {
            word
            for word in words
            if word in STOP_WORDS or sum(form.rows for form in self.vocabulary.forms(word)) > most
        }
        return frozenset() if common == words else frozenset(common)

    def _add_token(self, token: Token, clauses: QueryClauses, ignored: frozenset[str], *, is_prefix: bool) -> None:
        """Adds the clauses of one token, without `ignored` words. `is_prefix`: its last word is a prefix."""
        if token.field != "text":
            clauses.others.append(self._equal(token.field, [token.text]))
            return
        if not token.words:
            return
        if is_prefix:
            clauses.others.append(self._prefix(token.words))
            return
        if len(token.words) > 1:
            # The words of an identifier or a path weigh more where they are adjacent.
            clauses.phrases.append(Query.phrase_query(self.schema, "text", list(token.words)))
        elif token.is_phrase:
            clauses.add(token.words[0])
        if token.is_phrase:
            return
        words = [word for word in token.words if word not in ignored]
        # Identifiers and paths are not inflected.
        forms = self._forms(words[0]) if words and len(token.words) == 1 else dict.fromkeys(words, 1.0)
        for word, weight in forms.items():
            clauses.add(word, weight)
        for word in inner_words(token.text) - {*words} - ignored:
            clauses.add(word)

    def _prefix(self, words: Sequence[str]) -> Query:
        """The rows with `words` in sequence, the last one as a prefix."""
        if len(words) > 1:
            return Query.phrase_prefix_query(self.schema, "text", list(words))
        return Query.regex_query(self.schema, "text", re.escape(words[0]) + ".*")

    def _forms(self, word: str) -> dict[str, float]:
        """All forms of `word` by weight: each scores as one word with the rows of all forms would."""
        forms = self.vocabulary.forms(word)
        merged = self.vocabulary.weight(sum(form.rows for form in forms))
        own = {form.word: self.vocabulary.weight(form.rows) for form in forms}
        return {form: merged / weight + (OWN_FORM if form == word else 0.0) for form, weight in own.items()}

    def _equal(self, name: str, values: Sequence[str]) -> Query:
        """The rows that have one of `values` in tags or in a coded column."""
        field = "tags" if name == "tags" else "marks"
        terms = list(values) if name == "tags" else [mark(name, self.terms[name].code(value)) for value in values]
        if len(terms) > 1:
            return Query.term_set_query(self.schema, field, terms)
        return Query.term_query(self.schema, field, terms[0])
