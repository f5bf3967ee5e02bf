"""Bodies of requests and answers, as OpenAPI shows them."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SkipValidation, StrictBool, StrictFloat, StrictInt
from pydantic.config import JsonDict

from akosha_api.validation_errors import Time
from akosha_assets.lake.serving.parts.part import CODED
from akosha_assets.lake.serving.query import WEIGHTS, Filters, Identity, Question

# A memory that is in the fleet of `make demo`, so that examples can be tried.
OF_THE_DEMO: JsonDict = {"system_id": "laptop-ada-00000", "kind": "conversation", "id": "cba94d3c5a4d22ea"}

OneOrMore = str | Annotated[list[str], Field(min_length=1, max_length=100)]


class Like(BaseModel):
    """The memory to find similar ones of."""

    model_config = ConfigDict(extra="forbid")

    system_id: str
    kind: str
    id: str


class Weights(BaseModel):
    """How much each ranking counts in hybrid mode."""

    model_config = ConfigDict(extra="forbid")

    semantic: StrictFloat = WEIGHTS[0]
    keyword: StrictFloat = WEIGHTS[1]


class FilterFields(BaseModel):
    """Conditions that all hold for a memory before it is ranked."""

    model_config = ConfigDict(extra="forbid")

    system_id: OneOrMore | None = None
    project: OneOrMore | None = None
    kind: OneOrMore | None = None
    namespace: OneOrMore | None = None
    category: OneOrMore | None = None
    source_type: OneOrMore | None = None
    tags: Annotated[list[str] | None, Field(max_length=20, description="Every one of these.")] = None
    importance_min: Annotated[StrictFloat | None, Field(ge=0, le=1)] = None
    since: Annotated[Time | None, Field(description="Happened at this time or later.")] = None
    until: Annotated[Time | None, Field(description="Happened before this time.")] = None

    as_of: Annotated[
        StrictInt | Time | None,
        Field(
            description=(
                "The tables as they stood: a time, or a version of the hot table. In hot and warm, as far "
                "back as their files are kept."
            )
        ),
    ] = None

    def filters(self) -> Filters:
        """The conditions in the lake's words."""
        given = {name: getattr(self, name) for name in CODED}
        equals = {
            name: (value,) if isinstance(value, str) else tuple(value)
            for name, value in given.items()
            if value is not None
        }
        return Filters(equals, tuple(self.tags or ()), self.since, self.until, self.importance_min)


class SearchRequest(FilterFields):
    """One question: just one of `query`, `vector` and `like`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"query": "ModuleNotFoundError when the worker starts", "limit": 5},
                {"query": '"key policies" project:scheduler', "mode": "keyword", "since": "2026-11-01T00:00:00Z"},
                {"like": OF_THE_DEMO, "limit": 3},
            ]
        },
    )

    query: Annotated[
        str | None, Field(description='Words. In keyword ranking: "a phrase", prefix*, field:value, +must, -must_not.')
    ] = None
    vector: Annotated[
        list[StrictFloat] | None, Field(max_length=8192, description="A vector of `space`; any length above 0.")
    ] = None
    like: Annotated[Like | None, Field(description="A stored memory to find similar ones of.")] = None
    mode: Annotated[Literal["hybrid", "semantic", "keyword"], Field(description="How to rank.")] = "hybrid"
    space: Annotated[
        str | None, Field(description="Vector space to ask in; that of the service's own model where not given.")
    ] = None
    limit: Annotated[StrictInt, Field(ge=1, le=100, description="Results of one page.")] = 10
    cursor: Annotated[str | None, Field(max_length=20_000, description="`cursor` of the page before.")] = None
    weights: Annotated[
        Weights | None,
        Field(
            description=(
                "How much each ranking counts in hybrid mode. Not given: words for more where the question "
                "names a thing."
            )
        ),
    ] = None
    collapse: Annotated[StrictBool, Field(description="Fold near-duplicates into the best of them.")] = True
    facets: Annotated[
        list[str],
        Field(max_length=8, description="Fields to count values of, among all memories that pass the filters."),
    ] = []
    budget_tokens: Annotated[
        StrictInt | None, Field(ge=16, description="Tokens, of four bytes each, that the texts may have together.")
    ] = None

    def question(self) -> Question:
        """The question in the lake's words."""
        return Question(
            text=self.query,
            vector=None if self.vector is None else tuple(self.vector),
            like=None if self.like is None else Identity(self.like.system_id, self.like.kind, self.like.id),
            mode=self.mode,
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
    is_summary: Annotated[bool, Field(description="The text is a summary: warm and cold keep no more.")]
    tier: Annotated[str, Field(description="hot, warm or cold.")]
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


class FullMemory(Memory):
    """One stored memory with all the table holds of it."""

    attributes: Annotated[
        dict[str, Any] | None,
        Field(description="Minor columns of the source; `_json` has them as text where they nest too deeply."),
    ] = None
    provenance: Annotated[
        dict[str, Any], Field(description="The upload, object and snapshot that its present form came from.")
    ]
    has_vector: bool
    space: str | None


class Duplicates(BaseModel):
    """Near-duplicates that a result stands for."""

    count: int
    systems: Annotated[list[str], Field(description="Systems that hold it or a near-duplicate.")]


class Snippet(BaseModel):
    """A stretch of a text; `highlights` are start and end of each word of the question in it."""

    text: str
    highlights: list[tuple[int, int]]


class Result(Memory):
    """A memory with its rank's score."""

    score: Annotated[float, Field(description="Cosine (semantic), BM25 (keyword) or reciprocal rank sum (hybrid).")]
    scores: Annotated[dict[str, float], Field(description="Score in each ranking that found it.")]
    duplicates: Annotated[Duplicates, Field(description="Near-duplicates found with it.")]
    snippet: Annotated[Snippet, Field(description="The stretch of the text with most words of the question.")]
    is_truncated: Annotated[bool, Field(description="The text was cut to fit `budget_tokens`.")] = False


class TierState(BaseModel):
    """What one tier contributed."""

    state: Annotated[
        str,
        Field(
            description=(
                "answered, partial (still loading, or without rows that cannot be read), stale, empty, "
                "unavailable or skipped (not asked)."
            )
        ),
    ]
    reason: str | None
    version: Annotated[int | None, Field(description="Table version the answer shows.")]
    watermark: Annotated[datetime | None, Field(description="Everything committed up to this time is in the answer.")]
    rows: int
    rows_with_vector: int
    rows_set_aside: Annotated[int, Field(description="Rows of data files that cannot be read and are left out.")]
    days_on_disk: int


class StageState(BaseModel):
    """What one ranking did."""

    state: Annotated[str, Field(description="answered, skipped (not asked for) or unavailable.")]
    reason: str | None
    space: str | None
    candidates: int
    approximate: bool
    took_ms: float


class SearchResponse(BaseModel):
    """One page, and how whole it is."""

    results: list[Result]
    tiers: dict[str, TierState]
    stages: dict[str, StageState]
    mode: str
    facets: dict[str, dict[str, int]]
    cursor: Annotated[
        str | None, Field(description="Give it with the same question for the next page; null on the last.")
    ]
    took_ms: float


class BatchRequest(BaseModel):
    """Several questions at once. Each is held against its own model when its turn comes, so that one at fault does not
    refuse the others.
    """

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

    answers: list["SearchResponse | Problem"]


class System(BaseModel):
    """One Session-Buddy instance with memories in the lake."""

    system_id: str
    memories: int
    first_occurred_at: datetime
    last_occurred_at: datetime
    last_arrived_at: datetime


class SystemList(BaseModel):
    """Systems in order of their ids, and which tiers they were counted in."""

    systems: list[System]
    tiers: Annotated[
        dict[str, TierState], Field(description="Systems and memories of a tier that is not whole may be missing.")
    ]
    cursor: str | None


class UploadModel(BaseModel):
    """The receipt of one upload."""

    upload_id: str
    system_id: str
    state: Annotated[str, Field(description="arriving, waiting, claimed, ingested or quarantined.")]
    bytes: int
    snapshot_at: datetime
    seen_at: datetime
    claimed_at: datetime | None
    ingested_at: datetime | None
    searchable_at: Annotated[
        datetime | None, Field(description="When a service first served its memories; null before.")
    ]
    attempts: int
    reason: Annotated[str | None, Field(description="Why it is in quarantine, as a code.")]
    message: str | None
    sample: Annotated[str | None, Field(description="What it was refused for begins so; secrets are masked.")]
    rows_read: int | None
    new_rows: int | None
    changed_rows: int | None
    unchanged_rows: int | None
    absent_rows: int | None
    counts: Annotated[dict[str, Any] | None, Field(description="Rows by kind, and what was left out.")]
    hot_version: int | None


class UploadList(BaseModel):
    """Uploads, newest first."""

    uploads: list[UploadModel]
    cursor: str | None


class Problem(BaseModel):
    """RFC 9457 problem details: every error has this shape."""

    type: Annotated[str, Field(examples=["urn:akosha:problem:invalid-request"])]
    title: str
    status: int
    detail: str
    instance: str
    errors: Annotated[list[dict[str, Any]], Field(description="Each field at fault: field, message.")]
    request_id: str | None = None
