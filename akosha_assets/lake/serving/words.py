"""How text falls into words, for the keyword index, for questions and for highlights. Knows no rows and no index.

Words end at anything that is no letter or digit, so paths, snake_case and error strings fall into theirs.
"""

import re
from functools import lru_cache

import duckdb
import pyarrow as pa
from tantivy import Filter, TextAnalyzer, TextAnalyzerBuilder, Tokenizer

LONGEST_TOKEN_BYTES = 80
# Names of several words written as one: parseConfig, ModuleNotFoundError, HTTPServer.
NAME = "[A-Za-z0-9]*(?:[a-z0-9][A-Z]|[A-Z]{2}[a-z])[A-Za-z0-9]*"
INNER = "([A-Z]?[a-z0-9]+)"
# Left out of a question that has other words: they stand in most texts and say little of what one is about.
STOP_WORDS = frozenset(
    """
    a about after all also am an and any are as at be because been before being but by can could did do does for from had has have
    he her his how i if in into is it its just me my no nor not of off on or our out over she should so such than that the their
    them then there these they this to too up very was we were what when where which while who why will with would you your
    """.split()
)


def _analyzer(tokenizer: Tokenizer, *filters: Filter) -> TextAnalyzer:
    builder = TextAnalyzerBuilder(tokenizer).filter(Filter.remove_long(LONGEST_TOKEN_BYTES)).filter(Filter.lowercase())
    for each in filters:
        builder = builder.filter(each)
    return builder.build()


# `stems` has one form for `fails`, `failed` and `failing`.
ANALYZERS = {
    "words": _analyzer(Tokenizer.simple()),
    "stems": _analyzer(Tokenizer.simple(), Filter.stemmer("english")),
}


def words(text: str) -> list[str]:
    """The words of `text`, in lower case, in its order."""
    return list(ANALYZERS["words"].analyze(text))


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """What `word` (one, in lower case) has in common with its other forms."""
    return next(iter(ANALYZERS["stems"].analyze(word)), word)


def inner_words(name: str) -> set[str]:
    """The words inside a name such as parseConfig, in lower case."""
    return set(words(re.sub(INNER, r" \1 ", name)))


def named(connection: duckdb.DuckDBPyConnection, texts: pa.Table) -> list[str]:
    """For each row of `texts`, whose column is `text`, the words inside the names in it that hold several, with blanks between."""
    query = f"regexp_replace(array_to_string(regexp_extract_all(text, '{NAME}'), ' '), '{INNER}', ' \\1 ', 'g') AS names"
    found: list[str] = connection.from_arrow(texts).project(query).to_arrow_table()["names"].to_pylist()
    return found
