"""What a question in words looks for, as queries of the keyword index. Runs none of them."""

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import tantivy
from tantivy import FieldType, Occur, Query

from akosha_assets.lake.errors import InvalidRequest
from akosha_assets.lake.serving.parts.part import Categories
from akosha_assets.lake.serving.query import Filters, ParsedQuery, Token
from akosha_assets.lake.serving.text.analysis import STOP_WORDS, inner_words, stem, tokenize
from akosha_assets.lake.serving.text.vocabulary import Vocabulary

# A word of more than this share of the rows is left out of a question that has rarer ones: it costs most and tells
# least.
COMMON_SHARE = 0.2
# In an index of fewer rows no word counts as common.
COMMON_MIN_ROWS = 1_000
# How much more a word counts in the very form that was asked for. Chosen by `akosha bench relevance`.
OWN_FORM = 0.5
# Each word with a star is looked up among all words, which takes longer than finding rows.
MOST_PREFIXES = 16
# A field that may stand before a colon in a question, and the field of the index that it means.
FIELDS = {
    "text": "text",
    "system": "system_id",
    "system_id": "system_id",
    "project": "project",
    "kind": "kind",
    "tag": "tags",
}
TOKEN = re.compile(r'([+-]?)(?:(\w+):(?=\S))?(?:"([^"]*)"|(\S+))')
# What must, or must not, be met is told by a sign before it.
SIGNED = {"+": Occur.Must, "-": Occur.MustNot}

Clause = tuple[Occur, Query]


def mark(name: str, code: int | str) -> str:
    """What the field `marks` holds of a row that has this code under `name`."""
    return f"{name}:{code}"


class Wanted:
    """What is looked for: words of the text by how much each counts, phrases of it, and the rest."""

    def __init__(self, schema: tantivy.Schema):
        self.schema = schema
        self.words: dict[str, float] = {}
        self.phrases: list[Query] = []
        self.rest: list[Query] = []

    def add(self, word: str, weight: float = 1.0) -> None:
        """The word counts so much more."""
        self.words[word] = self.words.get(word, 0.0) + weight

    def without_phrases(self) -> list[Clause]:
        """Clauses for all but the phrases."""
        terms = ((Query.term_query(self.schema, "text", word), weight) for word, weight in self.words.items())
        plain = [term if weight == 1 else Query.boost_query(term, weight) for term, weight in terms]
        return [(Occur.Should, query) for query in plain + self.rest]

    def with_phrases(self) -> list[Clause]:
        """Clauses for all of it."""
        return [*self.without_phrases(), *((Occur.Should, query) for query in self.phrases)]


@dataclass(frozen=True)
class QueryParser:
    """For an index of this schema with these words; `terms` has the codes in its marks."""

    schema: tantivy.Schema
    vocabulary: Vocabulary
    terms: dict[str, Categories]

    def queries(self, query: ParsedQuery) -> list[Query]:
        """Queries whose hits together are those of `query`: of a row that several find, the best score counts.

        Raises:
            InvalidRequest: too many of its words end in a star.
        """
        tokens = query.tokens
        if (prefixes := sum(token.is_prefix for token in tokens)) > MOST_PREFIXES:
            raise InvalidRequest("query", f"has {prefixes} words that end in *; expected at most {MOST_PREFIXES}")
        plain = [token for token in tokens if token.field == "text" and not token.sign and not token.is_phrase]
        spared = self._spared({word for token in plain for word in token.words})
        wanted, signed = Wanted(self.schema), []
        for token in tokens:
            if not token.sign:
                self._look_for(token, wanted, spared)
                continue
            self._look_for(token, one := Wanted(self.schema), frozenset())
            # Of an identifier or a path that is demanded its words stand together.
            if clauses := [(Occur.Should, query) for query in one.phrases] or one.without_phrases():
                signed.append((SIGNED[token.sign], Query.boolean_query(clauses)))
            elif token.words:
                # No row has it.
                signed.append((SIGNED[token.sign], Query.empty_query()))
        others = [*wanted.without_phrases(), *signed]
        if wanted.phrases and others:
            # Among words alone tantivy skips what cannot reach the best; beside a phrase it looks at every row with any
            # of them. So the rows that hold a phrase, which are few, are found by it, and all others by the rest.
            phrases = Query.boolean_query([(Occur.Should, query) for query in wanted.phrases])
            return [Query.boolean_query([(Occur.Must, phrases), *others]), Query.boolean_query(others)]
        clauses = [*wanted.with_phrases(), *signed]
        if clauses and all(occur is Occur.MustNot for occur, _ in clauses):
            clauses.append((Occur.Must, Query.all_query()))
        return [Query.boolean_query(clauses)] if clauses else []

    def conditions(self, filters: Filters) -> list[Query]:
        """What every row that passes the filters meets."""
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
            # As the rows have it, in half as many bits.
            least = float(np.float32(filters.importance_min))
            conditions.append(Query.range_query(self.schema, "importance", FieldType.Float, least, None))
        return conditions

    def highlights(self, query: ParsedQuery) -> frozenset[str]:
        """Stems of the words of a question that are looked for, and its prefixes with their star."""
        begun = {
            f"{token.words[-1]}*"
            for token in query.tokens
            if token.is_prefix and token.sign != "-" and token.field == "text" and token.words
        }
        return frozenset(stem(word) for word in query.words - self._spared(query.words)) | begun

    def _spared(self, asked: Set[str]) -> frozenset[str]:
        """Those words of a question that need not be looked for, since rarer ones are left."""
        rows = self.vocabulary.rows
        most = COMMON_SHARE * rows if rows >= COMMON_MIN_ROWS else rows
        common = {
            word
            for word in asked
            if word in STOP_WORDS or sum(form.rows for form in self.vocabulary.forms(word)) > most
        }
        return frozenset() if common == asked else frozenset(common)

    def _look_for(self, token: Token, wanted: Wanted, spared: frozenset[str]) -> None:
        """What the token looks for is in `wanted`."""
        if token.field != "text":
            wanted.rest.append(self._equal(token.field, [token.text]))
            return
        found = token.words
        if not found:
            return
        if token.is_prefix:
            wanted.rest.append(self._begun(found))
            return
        if len(found) > 1:
            # The words of an identifier or a path count for more where they stand together.
            wanted.phrases.append(Query.phrase_query(self.schema, "text", list(found)))
        elif token.is_phrase:
            wanted.add(found[0])
        if token.is_phrase:
            return
        looked_for = [word for word in found if word not in spared]
        # Identifiers and paths are not inflected.
        forms = self._forms(found[0]) if looked_for and len(found) == 1 else dict.fromkeys(looked_for, 1.0)
        for word, weight in forms.items():
            wanted.add(word, weight)
        for word in inner_words(token.text) - {*looked_for} - spared:
            wanted.add(word)

    def _begun(self, found: Sequence[str]) -> Query:
        """What begins with a word, or with words that stand together."""
        if len(found) > 1:
            return Query.phrase_prefix_query(self.schema, "text", list(found))
        return Query.regex_query(self.schema, "text", re.escape(found[0]) + ".*")

    def _forms(self, word: str) -> dict[str, float]:
        """All forms of `word`, each counting as much as all of them together would."""
        forms = self.vocabulary.forms(word)
        together = self.vocabulary.weight(sum(form.rows for form in forms))
        own = {form.word: self.vocabulary.weight(form.rows) for form in forms}
        return {form: together / weight + (OWN_FORM if form == word else 0.0) for form, weight in own.items()}

    def _equal(self, name: str, values: Sequence[str]) -> Query:
        """The rows that have one of `values` under `name`: tags or a coded column."""
        field = "tags" if name == "tags" else "marks"
        wanted = list(values) if name == "tags" else [mark(name, self.terms[name].code(value)) for value in values]
        return (
            Query.term_set_query(self.schema, field, wanted)
            if len(wanted) > 1
            else Query.term_query(self.schema, field, wanted[0])
        )


def parse_query(text: str) -> ParsedQuery:
    """The tokens of a question. A name before a colon that is not a field belongs to the word after it."""
    tokens = []
    for sign, name, phrase, word in TOKEN.findall(text):
        field = FIELDS.get(name.lower() or "text")
        piece, is_phrase = (f"{name}:{word or phrase}", False) if field is None else (phrase or word, bool(phrase))
        tokens.append(Token(sign, field or "text", piece, is_phrase, tuple(tokenize(piece))))
    return ParsedQuery(tuple(tokens), frozenset(tokenize(text)))
