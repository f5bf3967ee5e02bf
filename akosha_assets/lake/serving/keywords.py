"""The keyword index: BM25 over the text of every served row, by row number.

It finds row numbers and scores; what the rows are is in `parts.py`. The index is a cache: it is made from parts and
may be deleted whenever no process uses it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tantivy
from tantivy import FieldType, Occur, Query

from akosha_assets.lake.serving.parts import CODED, Part, Terms
from akosha_assets.lake.serving.query import Filters
from akosha_assets.lake.serving.vocabulary import Vocabulary
from akosha_assets.lake.serving.words import ANALYZERS, STOP_WORDS, inner_words, named, stem, words

# What the writer gathers before it writes a segment, and its threads: for a few rows, and for a load of this many at once.
HEAP_BYTES, THREADS = 64_000_000, 1
LARGE_LOAD_ROWS = 50_000
LARGE_HEAP_BYTES, LARGE_THREADS = 400_000_000, 2
BATCH_ROWS = 10_000
# A word of more than this share of the rows is left out of a question that has rarer ones: it costs most and tells least.
COMMON_SHARE = 0.2
# In an index of fewer rows no word counts as common.
COMMON_MIN_ROWS = 1_000
# How much more a word counts in the very form that was asked for. Chosen by `akosha bench relevance`.
OWN_FORM = 0.5
# A field that may stand before a colon in a question, and the field of the index that it means.
FIELDS = {"text": "text", "system": "system_id", "system_id": "system_id", "project": "project", "kind": "kind", "tag": "tags"}
TOKEN = re.compile(r'([+-]?)(?:(\w+):(?=\S))?(?:"([^"]*)"|(\S+))')


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("number", fast=True)
    builder.add_text_field("text", tokenizer_name="words", index_option="position")
    # The load of a row and its codes: one field costs less to build than one for each.
    builder.add_text_field("marks", tokenizer_name="whitespace", index_option="basic")
    builder.add_text_field("tags", tokenizer_name="raw", index_option="basic")
    builder.add_integer_field("occurred_us", fast=True)
    builder.add_float_field("importance", fast=True)
    return builder.build()


def _mark(name: str, code: int | str) -> str:
    return f"{name}:{code}"


def _marks(part: Part, load: int, of_rows: slice) -> list[str]:
    """What the field `marks` holds of each row."""
    marks = [pa.scalar(_mark("load", load))]
    for name in CODED:
        codes = part.codes[name][of_rows]
        if (codes >= 0).any():
            marks.append(pc.binary_join_element_wise(_mark(name, ""), pa.array(codes, mask=codes < 0).cast(pa.string()), ""))
    if len(marks) == 1:
        return [marks[0].as_py()] * len(codes)
    joined: list[str] = pc.binary_join_element_wise(*marks, " ", null_handling="skip").to_pylist()
    return joined


@dataclass(frozen=True)
class KeywordSearcher:
    """The index at one instant."""

    index: tantivy.Index
    searcher: tantivy.Searcher
    schema: tantivy.Schema
    vocabulary: Vocabulary
    terms: dict[str, Terms]
    # Names of loads whose rows are not to be found.
    without: tuple[int, ...] = ()

    def search(self, text: str, filters: Filters, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers and BM25 scores of the best `k` rows for the words of `text`, best first."""
        query = self._parsed(text)
        if query is None:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        conditions = self._conditions(filters)
        if conditions:
            query = Query.boolean_query([(Occur.Must, query), *((Occur.Must, Query.const_score_query(c, 0.0)) for c in conditions)])
        if self.without:
            loads = [_mark("load", load) for load in self.without]
            query = Query.boolean_query([(Occur.Must, query), (Occur.MustNot, Query.term_set_query(self.schema, "marks", loads))])
        hits = self.searcher.search(query, k, count=False).hits
        numbers = self.searcher.fast_field_values("number", [address for _, address in hits])
        return np.array(numbers, np.int64), np.array([score for score, _ in hits], np.float32)

    def highlights(self, text: str) -> frozenset[str]:
        """Stems of the words of a question that are looked for, and its prefixes with their star."""
        asked = set(words(text))
        begun = {
            f"{found[-1]}*"
            for sign, field, _, word in TOKEN.findall(text)
            if word.endswith("*") and sign != "-" and field.lower() in ("", "text") and (found := words(word))
        }
        return frozenset(stem(word) for word in asked - self._spared(asked)) | begun

    def _parsed(self, text: str) -> Query | None:
        clauses: list[tuple[Occur, Query]] = []
        tokens = []
        for sign, field, phrase, word in TOKEN.findall(text):
            if field and field.lower() not in FIELDS:
                word, phrase, field = f"{field}:{word or phrase}", "", ""
            tokens.append((sign, FIELDS.get(field.lower(), "text"), phrase, word))
        plain = {each for sign, name, _, word in tokens if name == "text" and not sign for each in words(word)}
        spared = self._spared(plain)
        for sign, name, phrase, word in tokens:
            found = self._clauses(name, phrase or word, frozenset() if sign else spared, is_phrase=bool(phrase))
            if sign and found:
                whole = found[0][1] if len(found) == 1 else Query.boolean_query(found)
                found = [(Occur.Must if sign == "+" else Occur.MustNot, whole)]
            clauses += found
        wanted = [clause for clause in clauses if clause[0] is not Occur.MustNot]
        if not clauses:
            return None
        return Query.boolean_query(clauses if wanted else [(Occur.Must, Query.all_query()), *clauses])

    def _spared(self, asked: set[str]) -> frozenset[str]:
        """Those words of a question that need not be looked for, since rarer ones are left."""
        rows = self.searcher.num_docs
        most = COMMON_SHARE * rows if rows >= COMMON_MIN_ROWS else rows
        common = {word for word in asked if word in STOP_WORDS or sum(form.rows for form in self.vocabulary.forms(word)) > most}
        return frozenset() if common == asked else frozenset(common)

    def _clauses(self, name: str, text: str, spared: frozenset[str], *, is_phrase: bool) -> list[tuple[Occur, Query]]:
        if name != "text":
            return [(Occur.Should, self._equal(name, [text]))]
        is_prefix = text.endswith("*") and not is_phrase
        found = words(text)
        if not found:
            return []
        if is_prefix:
            if len(found) > 1:
                return [(Occur.Should, Query.phrase_prefix_query(self.schema, "text", list(found)))]
            return [(Occur.Should, Query.regex_query(self.schema, "text", re.escape(found[0]) + ".*"))]
        if is_phrase:
            one = Query.term_query(self.schema, "text", found[0])
            return [(Occur.Should, Query.phrase_query(self.schema, "text", list(found)) if len(found) > 1 else one)]
        # Plain terms, all in one query: only then does tantivy skip what cannot reach the best.
        looked_for = [word for word in found if word not in spared]
        # Identifiers and paths are not inflected.
        clauses = self._plain(looked_for) if len(found) > 1 else [clause for word in looked_for for clause in self._forms(word)]
        clauses += self._plain(sorted(inner_words(text) - {*looked_for} - spared))
        if len(found) > 1:
            # The words of an identifier or a path count for more where they stand together.
            clauses.append((Occur.Should, Query.phrase_query(self.schema, "text", list(found))))
        return clauses

    def _plain(self, wanted: list[str]) -> list[tuple[Occur, Query]]:
        return [(Occur.Should, Query.term_query(self.schema, "text", word)) for word in wanted]

    def _forms(self, word: str) -> list[tuple[Occur, Query]]:
        """All forms of `word`, each counting as much as all of them together would."""
        forms = self.vocabulary.forms(word)
        together = self.vocabulary.weight(sum(form.rows for form in forms))
        clauses = []
        for form in forms:
            own = self.vocabulary.weight(form.rows)
            wanted = together + (OWN_FORM * own if form.word == word else 0.0)
            clauses.append((Occur.Should, Query.boost_query(Query.term_query(self.schema, "text", form.word), wanted / own)))
        return clauses

    def _equal(self, name: str, values: Sequence[str]) -> Query:
        """The rows that have one of `values` under `name`: tags or a coded column."""
        field = "tags" if name == "tags" else "marks"
        wanted = list(values) if name == "tags" else [_mark(name, self.terms[name].code(value)) for value in values]
        return Query.term_set_query(self.schema, field, wanted) if len(wanted) > 1 else Query.term_query(self.schema, field, wanted[0])

    def _conditions(self, filters: Filters) -> list[Query]:
        conditions = [self._equal(name, values) for name, values in filters.equals.items()]
        conditions += [Query.term_query(self.schema, "tags", tag) for tag in filters.tags]
        if filters.since_us is not None:
            conditions.append(Query.range_query(self.schema, "occurred_us", FieldType.Integer, filters.since_us, None))
        if filters.until_us is not None:
            conditions.append(Query.range_query(self.schema, "occurred_us", FieldType.Integer, None, filters.until_us, include_upper=False))
        if filters.importance_min is not None:
            conditions.append(Query.range_query(self.schema, "importance", FieldType.Float, filters.importance_min, None))
        return conditions


class KeywordIndex:
    """Takes rows in and out; one thread at a time. Readers use `searcher`, which each `commit` renews."""

    def __init__(self, folder: Path, terms: dict[str, Terms]):
        folder.mkdir(parents=True, exist_ok=True)
        self.schema = _schema()
        self.terms = terms
        self.index = tantivy.Index(self.schema, path=str(folder), reuse=True)
        for name, analyzer in ANALYZERS.items():
            self.index.register_tokenizer(name, analyzer)
        self._is_large = False
        self._writer = self.index.writer(HEAP_BYTES, THREADS)
        self.searcher = self._renewed()

    def expect(self, rows: int) -> None:
        """The writer is one for so many rows at once. What was added or removed before is committed where that means another."""
        if self._is_large == (rows > LARGE_LOAD_ROWS):
            return
        self.commit()
        self._writer.wait_merging_threads()
        self._is_large = not self._is_large
        self._writer = self.index.writer(*((LARGE_HEAP_BYTES, LARGE_THREADS) if self._is_large else (HEAP_BYTES, THREADS)))

    def add(self, part: Part, load: int, stop: int) -> None:
        """The rows of `part` with numbers from `load`, the name of their load, up to `stop` are in the index after the next commit."""
        first, last = np.searchsorted(part.numbers, [load, stop]).tolist()
        for batch in part.payload.select(["text", "tags"]).slice(first, last - first).to_batches(max_chunksize=BATCH_ROWS):
            of_batch = slice(first, first + len(batch))
            columns = [array[of_batch].tolist() for array in (part.numbers, part.occurred_us, part.importance)]
            texts, tags = (batch.column(name).to_pylist() for name in ("text", "tags"))
            inside = named(batch.column("text"))
            rows = zip(texts, inside, _marks(part, load, of_batch), tags, *columns, strict=True)
            for text, several, marks, row_tags, number, occurred_us, importance in rows:
                document = tantivy.Document()
                document.add_unsigned("number", number)
                document.add_text("text", text)
                if several:
                    document.add_text("text", several)
                document.add_text("marks", marks)
                document.add_integer("occurred_us", occurred_us)
                # One that is not a number is in no range.
                if importance == importance:
                    document.add_float("importance", importance)
                for tag in row_tags or ():
                    document.add_text("tags", tag)
                self._writer.add_document(document)
            first += len(batch)

    def remove(self, load: int) -> None:
        """The rows of the load that began with number `load` are gone after the next commit."""
        self._writer.delete_documents_by_query(Query.term_query(self.schema, "marks", _mark("load", load)))

    def commit(self) -> None:
        """What was added and removed is in the next `searcher`."""
        self._writer.commit()
        self.index.reload()
        self.searcher = self._renewed()

    def _renewed(self) -> KeywordSearcher:
        searcher = self.index.searcher()
        return KeywordSearcher(self.index, searcher, self.schema, Vocabulary(searcher, "text"), self.terms)

    def close(self) -> None:
        """The writer's threads have ended."""
        self._writer.wait_merging_threads()
