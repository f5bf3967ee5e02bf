"""The keyword index: BM25 over the text of every served row, by row id.

It returns row ids and scores; the rows are in parts. The index is a cache: it is built from parts and may be deleted
when no process uses it.
"""

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tantivy
from tantivy import Occur, Query

from akosha_assets.lake.serving.parts.part import CODED, Categories, Part
from akosha_assets.lake.serving.query import Filters, ParsedQuery
from akosha_assets.lake.serving.text.analysis import ANALYZERS, indexed_texts
from akosha_assets.lake.serving.text.query_parser import QueryParser, mark
from akosha_assets.lake.serving.text.vocabulary import Vocabulary

# Buffer and threads of the writer: for a few rows, and for more than this many rows at once.
HEAP_BYTES, THREADS = 64_000_000, 1
LARGE_LOAD_ROWS = 50_000
LARGE_HEAP_BYTES, LARGE_THREADS = 400_000_000, 2
BATCH_ROWS = 10_000
# Errors that an invalid value of a row may raise.
ROW_ERRORS = (TypeError, ValueError, OverflowError, pa.ArrowException)

logger = logging.getLogger(__name__)


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
    # Names of loads whose rows are excluded from searches.
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

    def full_score(self, question: ParsedQuery) -> float:
        """The score of a row of average length that has each word of `question` once."""
        return self.parser.full_score(question)

    def word_weights(self, question: ParsedQuery) -> dict[str, float]:
        """The inverse document frequency of each stem that is looked for."""
        return self.parser.word_weights(question)

    def highlights(self, question: ParsedQuery) -> frozenset[str]:
        """Stems of the words that a question searches for, and its prefixes, each with a star."""
        return self.parser.highlights(question)

    def has_tag(self, tag: str) -> bool:
        """Whether a row has the tag, or had it until its segment is merged."""
        return self.searcher.doc_freq("tags", tag) > 0


class KeywordIndexUnavailable(Exception):
    """The index accepts no more rows, since its folder or its disk failed. Its earlier searchers still work."""


class KeywordIndex:
    """Adds and removes rows; for one thread at a time. Readers use `searcher`, which each `commit` replaces.

    Stored in `folder`, or in memory if that is None. Every method that writes, and the constructor, may raise
    KeywordIndexUnavailable; after that only `close` may be called.
    """

    def __init__(self, folder: Path | None, terms: dict[str, Categories]):
        self.schema = _schema()
        self.terms = terms
        self.folder = folder
        self._is_large = False
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            self.index = tantivy.Index(self.schema, path=None if folder is None else str(folder), reuse=True)
            for name, analyzer in ANALYZERS.items():
                self.index.register_tokenizer(name, analyzer)
            self._writer = self.index.writer(HEAP_BYTES, THREADS)
            self.searcher = self._open_searcher()
        # tantivy reports everything as ValueError.
        except (OSError, ValueError) as error:
            raise KeywordIndexUnavailable(str(error)) from error

    def expect(self, rows: int) -> None:
        """Sizes the writer for a load of `rows`. Commits first if the size changes."""
        if self._is_large == (rows > LARGE_LOAD_ROWS):
            return
        self.commit()
        try:
            self._writer.wait_merging_threads()
            self._is_large = not self._is_large
            size = (LARGE_HEAP_BYTES, LARGE_THREADS) if self._is_large else (HEAP_BYTES, THREADS)
            self._writer = self.index.writer(*size)
        except ValueError as error:
            raise KeywordIndexUnavailable(str(error)) from error

    def add(self, part: Part, load: int, stop: int) -> int:
        """The rows of `part` with numbers from `load` up to `stop` are in the index after the next commit, except those
        that cannot be indexed; returns how many these are.
        """
        first, last = np.searchsorted(part.row_ids, [load, stop]).tolist()
        skipped = 0
        columns = part.payload.select(["text", "tags"]).slice(first, last - first)
        for batch in columns.to_batches(max_chunksize=BATCH_ROWS):
            skipped += self._add_batch(part, load, batch, first)
            first += len(batch)
        return skipped

    def _add_batch(self, part: Part, load: int, batch: pa.RecordBatch, first: int) -> int:
        """Adds the rows of `batch`, which begin at row `first` of the part; returns how many cannot be indexed.

        A batch that cannot be analyzed is bisected to find the invalid rows.
        """
        of_batch = slice(first, first + len(batch))
        try:
            texts, inner, extra = indexed_texts(batch.column("text"))
            tags = batch.column("tags").to_pylist()
            marks = _marks(part, load, of_batch)
        except ROW_ERRORS as error:
            if len(batch) == 1:
                self._log_skipped(part, first, error)
                return 1
            half = len(batch) // 2
            left, right = batch.slice(0, half), batch.slice(half)
            return self._add_batch(part, load, left, first) + self._add_batch(part, load, right, first + half)
        skipped = 0
        columns = [array[of_batch].tolist() for array in (part.row_ids, part.occurred_us, part.importance)]
        for row, values in enumerate(zip(texts, inner, marks, tags, *columns, strict=True), first):
            try:
                document = _document(*values)
                if (words := extra.get(row - first)) is not None:
                    document.add_text("text", words)
            except ROW_ERRORS as error:
                self._log_skipped(part, row, error)
                skipped += 1
                continue
            try:
                self._writer.add_document(document)
            except ValueError as error:
                raise KeywordIndexUnavailable(str(error)) from error
        return skipped

    def _log_skipped(self, part: Part, row: int, error: Exception) -> None:
        identity = part.payload.value("id", row)
        logger.warning("the words of a row are left out", extra={"memory": identity, "cause": str(error)})

    def remove(self, load: int) -> None:
        """The next commit removes the rows of the load that began with number `load`."""
        try:
            self._writer.delete_documents_by_query(Query.term_query(self.schema, "marks", mark("load", load)))
        except ValueError as error:
            raise KeywordIndexUnavailable(str(error)) from error

    def commit(self) -> None:
        """Commits all additions and removals; the new `searcher` has them."""
        try:
            self._writer.commit()
            self.index.reload()
            self.searcher = self._open_searcher()
        except ValueError as error:
            raise KeywordIndexUnavailable(str(error)) from error

    def _open_searcher(self) -> KeywordSearcher:
        searcher = self.index.searcher()
        return KeywordSearcher(self.index, searcher, QueryParser(self.schema, Vocabulary(searcher, "text"), self.terms))

    def close(self) -> None:
        """The threads of the writer have ended."""
        # They may have ended with an error before.
        with suppress(ValueError):
            self._writer.wait_merging_threads()


def _document(
    text: str,
    inner: str | None,
    marks: str,
    tags: list[str] | None,
    number: int,
    occurred_us: int,
    importance: float,
) -> tantivy.Document:
    document = tantivy.Document()
    document.add_unsigned("number", number)
    document.add_text("text", text)
    if inner:
        document.add_text("text", inner)
    document.add_text("marks", marks)
    document.add_integer("occurred_us", occurred_us)
    # NaN, for none, is in no range.
    if importance == importance:
        document.add_float("importance", importance)
    for tag in tags or ():
        document.add_text("tags", tag)
    return document
