"""The keyword index: BM25 over the text of every served row, by row id.

It returns row ids and scores; the rows are in parts. The index is a cache: it is built from parts and may be deleted
when no process uses it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tantivy
from tantivy import Occur, Query

from akosha_assets.lake.serving.parts.part import CODED, Categories, Part
from akosha_assets.lake.serving.query import Filters, ParsedQuery
from akosha_assets.lake.serving.text.analysis import ANALYZERS, fold_and_bigram_texts, identifier_parts
from akosha_assets.lake.serving.text.query_parser import QueryParser, mark
from akosha_assets.lake.serving.text.vocabulary import Vocabulary

# Buffer and threads of the writer: for a few rows, and for more than this many rows at once.
HEAP_BYTES, THREADS = 64_000_000, 1
LARGE_LOAD_ROWS = 50_000
LARGE_HEAP_BYTES, LARGE_THREADS = 400_000_000, 2
BATCH_ROWS = 10_000


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("number", fast=True)
    builder.add_text_field("text", tokenizer_name="words", index_option="position")
    # The first row id of the row's file, and its codes: one field costs less to build than several.
    builder.add_text_field("marks", tokenizer_name="whitespace", index_option="basic")
    builder.add_text_field("tags", tokenizer_name="raw", index_option="basic")
    builder.add_integer_field("occurred_us", fast=True)
    builder.add_float_field("importance", fast=True)
    return builder.build()


def _marks(part: Part, load: int, of_rows: slice) -> list[str]:
    """The value of the field `marks` for each row."""
    marks = [pa.scalar(mark("load", load))]
    for name in CODED:
        codes = part.codes[name][of_rows]
        if (codes >= 0).any():
            marks.append(
                pc.binary_join_element_wise(mark(name, ""), pa.array(codes, mask=codes < 0).cast(pa.string()), "")
            )
    if len(marks) == 1:
        return [marks[0].as_py()] * len(codes)
    joined: list[str] = pc.binary_join_element_wise(*marks, " ", null_handling="skip").to_pylist()
    return joined


@dataclass(frozen=True)
class KeywordSearcher:
    """The index at one instant."""

    index: tantivy.Index
    searcher: tantivy.Searcher
    parser: QueryParser
    # Names of loads whose rows are not to be found.
    without: tuple[int, ...] = ()

    def search(self, question: ParsedQuery, filters: Filters, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers and BM25 scores of the best `k` rows for the words of `question`, best first."""
        conditions = [(Occur.Must, Query.const_score_query(each, 0.0)) for each in self.parser.conditions(filters)]
        if self.without:
            loads = [mark("load", load) for load in self.without]
            conditions.append((Occur.MustNot, Query.term_set_query(self.parser.schema, "marks", loads)))
        hits = []
        queries = self.parser.queries(question)
        for query in queries:
            whole = Query.boolean_query([(Occur.Must, query), *conditions]) if conditions else query
            hits += self.searcher.search(whole, k, count=False).hits
        numbers = np.array(self.searcher.fast_field_values("number", [address for _, address in hits]), np.int64)
        scores = np.array([score for score, _ in hits], np.float32)
        if len(queries) > 1:
            best = np.argsort(-scores, kind="stable")
            best = best[np.sort(np.unique(numbers[best], return_index=True)[1])][:k]
            numbers, scores = numbers[best], scores[best]
        return numbers, scores

    def highlights(self, question: ParsedQuery) -> frozenset[str]:
        """Stems of the words of a question that are looked for, and its prefixes with their star."""
        return self.parser.highlights(question)


class KeywordIndex:
    """Takes rows in and out; one thread at a time. Readers use `searcher`, which each `commit` renews."""

    def __init__(self, folder: Path, terms: dict[str, Categories]):
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
        """The writer is one for so many rows at once. What was added or removed before is committed where that means
        another.
        """
        if self._is_large == (rows > LARGE_LOAD_ROWS):
            return
        self.commit()
        self._writer.wait_merging_threads()
        self._is_large = not self._is_large
        self._writer = self.index.writer(
            *((LARGE_HEAP_BYTES, LARGE_THREADS) if self._is_large else (HEAP_BYTES, THREADS))
        )

    def add(self, part: Part, load: int, stop: int) -> None:
        """The rows of `part` with numbers from `load`, the name of their load, up to `stop` are in the index after the
        next commit.
        """
        first, last = np.searchsorted(part.row_ids, [load, stop]).tolist()
        for batch in (
            part.payload.select(["text", "tags"]).slice(first, last - first).to_batches(max_chunksize=BATCH_ROWS)
        ):
            of_batch = slice(first, first + len(batch))
            columns = [array[of_batch].tolist() for array in (part.row_ids, part.occurred_us, part.importance)]
            texts, tags = fold_and_bigram_texts(batch.column("text")), batch.column("tags").to_pylist()
            inside = identifier_parts(batch.column("text"))
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
        self._writer.delete_documents_by_query(Query.term_query(self.schema, "marks", mark("load", load)))

    def commit(self) -> None:
        """What was added and removed is in the next `searcher`."""
        self._writer.commit()
        self.index.reload()
        self.searcher = self._renewed()

    def _renewed(self) -> KeywordSearcher:
        searcher = self.index.searcher()
        return KeywordSearcher(self.index, searcher, QueryParser(self.schema, Vocabulary(searcher, "text"), self.terms))

    def close(self) -> None:
        """The writer's threads have ended."""
        self._writer.wait_merging_threads()
