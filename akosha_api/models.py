"""Request and response bodies of search, as OpenAPI shows them."""

from datetime import date, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SkipValidation, StrictBool, StrictFloat, StrictInt
from pydantic.config import JsonDict

from akosha_api.filter_fields import FilterFields
from akosha_api.problems import Problem
from akosha_assets.lake.serving.query import WEIGHTS, Identity, Question
from akosha_assets.lake.serving.search.results import FACETS
from akosha_assets.lake.serving.states import QuerySyntax, RankingStatus, SearchMode, TierStatus
from akosha_assets.lake.tiers import Tier

# A memory of the fleet of `make demo`, so that the examples work there.
OF_THE_DEMO: JsonDict = {"system_id": "laptop-ada-00000", "kind": "conversation", "id": "cba94d3c5a4d22ea"}


class Like(BaseModel):
    """The name of a stored memory."""

    model_config = ConfigDict(extra="forbid")

    system_id: str
    kind: str
    id: str


class Weights(BaseModel):
    """How much each ranking counts in hybrid mode."""

    model_config = ConfigDict(extra="forbid")

    semantic: StrictFloat = WEIGHTS[0]
    keyword: StrictFloat = WEIGHTS[1]


class SearchRequest(FilterFields):
    """One question: exactly one of `query`, `vector` and `like`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"query": "ModuleNotFoundError when the worker starts", "limit": 5},
                {"query": '"key policies" +project:scheduler', "mode": "keyword", "since": "2026-11-01T00:00:00Z"},
                {"like": OF_THE_DEMO, "limit": 3},
            ]
        },
    )

    query: Annotated[
        str | None, Field(description="Text: a question, a name, or a pasted command, error or log line.")
    ] = None
    syntax: Annotated[
        QuerySyntax | None,
        Field(
            description=(
                'plain: all of the query is text. auto: quoted phrases, +"…", -"…" and fields with an existing value '
                "are operators. query: also prefix*, +required, -excluded and every field:value. Default: auto in "
                "keyword mode, otherwise plain."
            )
        ),
    ] = None
    vector: Annotated[
        list[StrictFloat] | None, Field(max_length=8192, description="A vector of `space`; its length must not be 0.")
    ] = None
    like: Annotated[Like | None, Field(description="Find memories similar to this one.")] = None
    mode: Annotated[SearchMode, Field(description="How to rank.")] = SearchMode.HYBRID
    space: Annotated[
        str | None, Field(description="Vector space to search; by default that of the service's embedding model.")
    ] = None
    limit: Annotated[StrictInt, Field(ge=1, le=100, description="Results per page.")] = 10
    cursor: Annotated[str | None, Field(max_length=20_000, description="`cursor` of the page before.")] = None
    weights: Annotated[
        Weights | None,
        Field(
            description=(
                "Weight of the semantic and the keyword score in hybrid mode; 0.6 and 0.4 by default. A ranking of "
                "weight 0 adds no results."
            )
        ),
    ] = None
    collapse: Annotated[
        StrictBool,
        Field(description="Show only the best of memories with the same words in the same order; false shows each."),
    ] = True
    facets: Annotated[
        list[Annotated[str, Field(json_schema_extra={"enum": list(FACETS)})]],
        Field(max_length=8, description="Fields whose values are counted among all memories that pass the filters."),
    ] = []  # noqa: RUF012 - pydantic copies it
    budget_tokens: Annotated[
        StrictInt | None, Field(ge=16, description="Tokens, of four bytes each, that the texts may have in total.")
    ] = None

    def question(self) -> Question:
        """The question for the searcher."""
        return Question(
            text=self.query,
            vector=None if self.vector is None else tuple(self.vector),
            like=None if self.like is None else Identity(self.like.system_id, self.like.kind, self.like.id),
            mode=self.mode,
            syntax=self.syntax,
            space=self.space,
            limit=self.limit,
            cursor=self.cursor,
            filters=self.filters(),
            weights=None if self.weights is None else (self.weights.semantic, self.weights.keyword),
            collapse=self.collapse,
            facets=tuple(self.facets),
            budget_tokens=self.budget_tokens,
            as_of=self.as_of,
        )


class Memory(BaseModel):
    """One stored memory."""

    system_id: str
    kind: str
    id: str
    text: str
    is_summary: Annotated[bool, Field(description="The text is a summary, which is all that warm and cold keep.")]
    tier: Tier
    event_day: date
    occurred_at: datetime
    occurred_from: Annotated[str, Field(description="How occurred_at was derived.")]
    arrived_at: datetime
    project: str | None
    namespace: str | None
    category: str | None
    source_type: str | None
    session_id: str | None
    importance: float | None
    tags: list[str]
    upload_id: str | None
    absent_since: Annotated[
        datetime | None,
        Field(description="Time of the snapshot in which its source no longer had it; null while it has it."),
    ] = None


class MemoryId(BaseModel):
    """What identifies a memory."""

    system_id: str
    kind: str
    id: str


class Duplicates(BaseModel):
    """Near-duplicates of a result that were ranked below it."""

    count: int
    systems: Annotated[list[str], Field(description="Systems that have it or a near-duplicate.")]
    memories: Annotated[list[MemoryId], Field(description="The first ten of the near-duplicates.")]


class Snippet(BaseModel):
    """An excerpt of a text. `highlights` are start and end of each word of the question in it, in code points."""

    text: str
    highlights: list[tuple[int, int]]


class Result(Memory):
    """A memory that a search found."""

    score: Annotated[
        float,
        Field(description="Cosine (semantic), BM25 (keyword) or weighted sum of both, each scaled to 0..1 (hybrid)."),
    ]
    scores: Annotated[dict[str, float], Field(description="Score in each ranking that found it.")]
    relevance: Annotated[
        float,
        Field(description="0 to 1, comparable between questions and modes. Below 0.5 it is not close to the question."),
    ]
    duplicates: Annotated[Duplicates, Field(description="Near-duplicates that were ranked below it.")]
    snippet: Annotated[Snippet, Field(description="The excerpt of the text with most words of the question.")]
    is_truncated: Annotated[bool, Field(description="The text was cut to fit `budget_tokens`.")] = False


class TierState(BaseModel):
    """What one tier contributed."""

    state: Annotated[
        TierStatus,
        Field(
            description=(
                "partial: still loading, or without rows that cannot be read. stale: the table cannot be read now. "
                "skipped: not searched."
            )
        ),
    ]
    reason: str | None
    version: Annotated[int | None, Field(description="Table version that the answer shows.")]
    watermark: Annotated[
        datetime | None, Field(description="Commit time of that version; every earlier commit is included.")
    ]
    rows: int
    rows_with_vector: int
    rows_set_aside: Annotated[int, Field(description="Rows that cannot be served and are not in the answer.")]
    days_on_disk: int


class StageState(BaseModel):
    """What one ranking did."""

    state: Annotated[RankingStatus, Field(description="skipped: the mode does not use this ranking.")]
    reason: str | None
    is_complete: Annotated[
        bool, Field(description="It ranked every memory. `reason` then names those known by their beginning only.")
    ]
    space: str | None
    candidates: int
    approximate: bool
    took_ms: float


class QueryOperator(BaseModel):
    """A part of the query that was not searched as text."""

    text: str
    meaning: str


class SearchResponse(BaseModel):
    """One page of results, and how complete it is."""

    results: list[Result]
    is_close: Annotated[bool, Field(description="A result of this page has a relevance of at least 0.5.")]
    below_line: Annotated[int, Field(description="Results of this page with a relevance below 0.5.")]
    message: Annotated[str | None, Field(description="Says so if there are results and none is close.")]
    tiers: dict[str, TierState]
    stages: dict[str, StageState]
    mode: SearchMode
    operators: Annotated[
        list[QueryOperator], Field(description="What of the query was an operator; all else was searched as text.")
    ]
    unknown_values: Annotated[dict[str, list[str]], Field(description="Values of each filter that no memory has.")]
    facets: dict[str, dict[str, int]]
    cursor: Annotated[
        str | None, Field(description="Send it with the same question for the next page; null on the last.")
    ]
    took_ms: float


class BatchRequest(BaseModel):
    """Several questions. Each is validated when it is answered, so an invalid one does not refuse the others."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"searches": [{"query": "certificate expired", "limit": 3}, {"like": OF_THE_DEMO, "limit": 3}]}
            ]
        },
    )

    searches: Annotated[list[SkipValidation[SearchRequest]], Field(min_length=1, max_length=32)]


class BatchResponse(BaseModel):
    """An answer or a problem for each question, in their order."""

    answers: list[SearchResponse | Problem]
