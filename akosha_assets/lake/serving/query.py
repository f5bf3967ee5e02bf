"""Search requests: a question, its filters and its cursor, validated before anything is searched.

Filters apply before ranking, so the best of the few rows that pass are found among millions.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

import numpy as np

from akosha_assets.lake.errors import InvalidRequest
from akosha_assets.lake.serving.parts.part import CODED, Categories, Part
from akosha_assets.lake.serving.states import QuerySyntax, SearchMode

LIMIT_MAX = 100
PAGED_MAX = 1000
TEXT_MAX_CHARS = 10_000
# Weights of the semantic and the keyword score in hybrid mode. Chosen by `akosha bench relevance`.
WEIGHTS = (0.6, 0.4)
WEIGHT_MAX = 1000.0
CURSOR_VERSION = b"2"
DIGEST_BYTES = 8
# A shown result in a cursor: its identity and its content hash.
SHOWN_BYTES = 16
# Verbs of the meaning of an operator, by its sign.
_VERB = {"": "has", "+": "must have", "-": "must not have"}
_BE = {"": "is", "+": "must be", "-": "must not be"}
_CONTAIN = {"": "", "+": "must contain ", "-": "must not contain "}


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Conditions that all hold: columns equal to one of their values, every tag, `since` <= time < `until`."""

    equals: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    importance_min: float | None = None
    # True: only memories that their source lacks; False: only those that it has; None: both.
    absent: bool | None = None

    @property
    def since_us(self) -> int | None:
        """Microseconds since 1970 of `since`."""
        return None if self.since is None else round(self.since.timestamp() * 1_000_000)

    @property
    def until_us(self) -> int | None:
        """Microseconds since 1970 of `until`."""
        return None if self.until is None else round(self.until.timestamp() * 1_000_000)

    def mask(self, part: Part, terms: dict[str, Categories]) -> np.ndarray | None:
        """(rows,) bool: the rows of `part` that pass and are not hidden; None if all do."""
        masks: list[np.ndarray] = [
            np.isin(part.codes[name], [terms[name].code(value) for value in values])
            if len(values) > 1
            else part.codes[name] == terms[name].code(values[0])
            for name, values in self.equals.items()
        ]
        if self.since_us is not None:
            masks.append(part.occurred_us >= self.since_us)
        if self.until_us is not None:
            masks.append(part.occurred_us < self.until_us)
        if self.importance_min is not None:
            masks.append(part.importance >= self.importance_min)
        if self.absent is not None and (self.absent or part.absent_since_us is not None):
            masks.append(part.absent(np.arange(len(part))) == self.absent)
        if part.hidden is not None:
            masks.append(~part.hidden)
        masks += [part.has_tag(tag) for tag in self.tags]
        if not masks:
            return None
        passing: np.ndarray = np.logical_and.reduce(masks)
        return passing


@dataclass(frozen=True)
class Identity:
    """The name of a memory, the same in every tier."""

    system_id: str
    kind: str
    id: str


@dataclass(frozen=True, kw_only=True)
class Token:
    """A word, an identifier, a path or a phrase of a question, or a value of a field."""

    # "+" (required), "-" (excluded) or "".
    sign: str
    field: str
    text: str
    is_phrase: bool = False
    # It matches every word that begins with it.
    is_prefix: bool = False
    # The words of `text` as they are indexed.
    words: tuple[str, ...]
    # The operator as written in the question; empty if the token is text.
    operator: str = ""


@dataclass(frozen=True)
class Operator:
    """A part of a question that was not searched as text, and what it means."""

    text: str
    meaning: str


@dataclass(frozen=True)
class ParsedQuery:
    """The text of a question, tokenized once. `text.query_syntax.parse_query` makes it."""

    tokens: tuple[Token, ...] = ()
    # The words that a result may have, as they are indexed.
    words: frozenset[str] = frozenset()
    # The text for the embedding model: without fields and without excluded words.
    meaning: str = ""

    @property
    def required(self) -> tuple[Token, ...]:
        """The tokens with a sign: each result must match them, or must not."""
        return tuple(token for token in self.tokens if token.sign)

    def operators(self, *, only_required: bool) -> list[Operator]:
        """The operators in their order, or those with a sign, which alone change a semantic ranking."""
        return [
            Operator(token.operator, _describe(token))
            for token in self.tokens
            if token.operator and (token.sign or not only_required)
        ]


def _describe(token: Token) -> str:
    """What an operator means, in words."""
    if token.field == "tags":
        return f"{_VERB[token.sign]} the tag {token.text}"
    if token.field != "text":
        return f"{token.field} {_BE[token.sign]} {token.text}"
    if token.is_prefix:
        found = f"words that begin with {token.text[:-1]}"
    elif token.is_phrase:
        found = f"the phrase {token.text}" if len(token.words) > 1 else f"the word {token.text} in this form"
    else:
        found = f"the word {token.text}"
    return f"{_CONTAIN[token.sign]}{found}"


@dataclass(frozen=True, kw_only=True)
class Question:
    """One search. Exactly one of `text`, `vector` and `like` is given."""

    text: str | None = None
    vector: tuple[float, ...] | None = None
    like: Identity | None = None
    mode: str = SearchMode.HYBRID
    # Of `text`; None: `auto` in keyword mode, otherwise `plain`.
    syntax: QuerySyntax | None = None
    space: str | None = None
    limit: int = 10
    cursor: str | None = None
    filters: Filters = Filters()
    # Of the semantic and the keyword score; None: `WEIGHTS`.
    weights: tuple[float, float] | None = None
    collapse: bool = True
    facets: tuple[str, ...] = ()
    budget_tokens: int | None = None
    # The version of the tables to search. Whoever picks the snapshot applies it.
    as_of: int | datetime | None = None
    # Of `text`; the searcher fills it, so that no step tokenizes the text again.
    parsed: ParsedQuery = field(default=ParsedQuery(), repr=False)

    def checked(self) -> Self:
        """The question, with mode `semantic` if it has no text.

        Raises:
            InvalidRequest: a field is invalid; the message names it and what was expected.
        """
        self._check_subject()
        if self.mode not in list(SearchMode):
            raise InvalidRequest("mode", f"{self.mode!r} is not a mode; expected one of {', '.join(SearchMode)}")
        if self.mode == SearchMode.KEYWORD and self.text is None:
            raise InvalidRequest("mode", f"keyword search needs query; found {self._subjects()[0]}")
        if not 1 <= self.limit <= LIMIT_MAX:
            raise InvalidRequest("limit", f"{self.limit} is out of range; expected 1 to {LIMIT_MAX}")
        if self.weights is not None and (
            not all(0 <= weight <= WEIGHT_MAX for weight in self.weights) or not any(self.weights)
        ):
            found = " and ".join(f"{weight:g}" for weight in self.weights)
            raise InvalidRequest("weights", f"expected numbers from 0 to {WEIGHT_MAX:g}, not both 0; found {found}")
        for name in self.filters.equals:
            if name not in CODED:
                raise InvalidRequest(name, f"is not a filter; expected one of {', '.join(CODED)}")
        return replace(self, mode=SearchMode.SEMANTIC if self.text is None else SearchMode(self.mode))

    @property
    def text_syntax(self) -> QuerySyntax:
        """The syntax in which the text is read."""
        if self.syntax is not None:
            return self.syntax
        return QuerySyntax.AUTO if self.mode == SearchMode.KEYWORD else QuerySyntax.PLAIN

    def _subjects(self) -> list[str]:
        subjects = (("query", self.text), ("vector", self.vector), ("like", self.like))
        return [name for name, value in subjects if value is not None]

    def _check_subject(self) -> None:
        if len(subjects := self._subjects()) != 1:
            raise InvalidRequest(
                "query", f"expected just one of query, vector and like; found {' and '.join(subjects) or 'none'}"
            )
        if self.text is not None and not 0 < len(self.text.strip()) <= TEXT_MAX_CHARS:
            raise InvalidRequest(
                "query", f"expected 1 to {TEXT_MAX_CHARS} characters that are not all blank; found {len(self.text)}"
            )
        if self.vector is not None and not np.isfinite(np.array(self.vector, np.float64)).all():
            raise InvalidRequest("vector", "has a number that is not finite; expected finite numbers")
        if self.vector is not None and not any(self.vector):
            raise InvalidRequest("vector", "is empty or all zeros; expected a vector whose length is not 0")

    def digest(self) -> bytes:
        """`DIGEST_BYTES` bytes that are equal for all pages of one question."""
        vector = b"" if self.vector is None else np.array(self.vector, "<f8").tobytes()
        rest = replace(self, vector=None, cursor=None, limit=1, budget_tokens=None, facets=())
        return hashlib.blake2b(vector + repr(rest).encode(), digest_size=DIGEST_BYTES).digest()

    def already_shown(self) -> np.ndarray:
        """(results, 2) uint64: identity and content hash of each result of the earlier pages.

        Raises:
            InvalidRequest: the cursor is invalid or belongs to another question.
        """
        if self.cursor is None:
            return np.empty((0, 2), np.uint64)
        try:
            raw = base64.urlsafe_b64decode(self.cursor.encode("ascii") + b"=" * (-len(self.cursor) % 4))
        except ValueError as error:
            raise InvalidRequest("cursor", "is not a cursor; expected the `cursor` of the page before") from error
        start = len(CURSOR_VERSION) + DIGEST_BYTES
        if not raw.startswith(CURSOR_VERSION) or len(raw) < start or (len(raw) - start) % SHOWN_BYTES:
            raise InvalidRequest("cursor", "is not a cursor; expected the `cursor` of the page before")
        if raw[len(CURSOR_VERSION) : start] != self.digest():
            raise InvalidRequest(
                "cursor",
                "belongs to another question; expected the same query, mode and filters as for the page before",
            )
        return np.frombuffer(raw[start:], "<u8").astype(np.uint64).reshape(-1, 2)

    def cursor_after(self, shown: np.ndarray, page: Sequence[tuple[int, int]]) -> str | None:
        """The cursor of the next page; None once `PAGED_MAX` results were shown.

        `shown` is (results, 2) uint64 as from `already_shown`; `page` has the same two hashes of each result of this
        page.
        """
        results = np.concatenate([shown, np.array(page, np.uint64).reshape(-1, 2)])
        if len(results) >= PAGED_MAX:
            return None
        raw = CURSOR_VERSION + self.digest() + results.astype("<u8").tobytes()
        return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")
