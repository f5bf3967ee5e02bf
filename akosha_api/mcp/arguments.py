"""The arguments of each tool. Their descriptions are all that an agent knows of them."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from akosha_api.filter_fields import OneOrMore
from akosha_api.validation_errors import Time
from akosha_assets.lake.serving.states import QuerySyntax, SearchMode

Limit = Annotated[int, Field(ge=1, le=100, description="Results at most.")]
Budget = Annotated[
    int, Field(ge=500, le=100_000, description="Tokens, of four bytes each, that the whole answer may have.")
]


class Arguments(BaseModel):
    """Arguments of a tool; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid")


Collapse = Annotated[
    bool, Field(description="Show only the best of memories with the same words; false shows every one of them.")
]


class SearchArguments(Arguments):
    """Arguments of `search_all_systems`."""

    query: Annotated[
        str,
        Field(description="An error message, a command, a symptom, a name, or a question; pasted as it is."),
    ]
    limit: Limit = 10
    mode: Annotated[
        SearchMode,
        Field(
            description=(
                "hybrid ranks by meaning and by words; semantic by meaning alone; keyword by words alone, for exact "
                "names and codes."
            )
        ),
    ] = SearchMode.HYBRID
    syntax: Annotated[
        QuerySyntax,
        Field(
            description=(
                'plain: all of query is text. auto: "a phrase", +"…", -"…" and field:value are operators. query: also '
                "prefix*, +required and -excluded. `operators` of the answer names those that counted."
            )
        ),
    ] = QuerySyntax.PLAIN
    system_id: Annotated[OneOrMore | None, Field(description="Only of this system, or of one of these.")] = None
    project: Annotated[OneOrMore | None, Field(description="Only of this project, or of one of these.")] = None
    kind: Annotated[OneOrMore | None, Field(description="conversation, reflection, or both.")] = None
    since: Annotated[
        Time | None, Field(description="It happened at this time or later; with a zone: 2026-11-01T08:00:00Z.")
    ] = None
    until: Annotated[Time | None, Field(description="It happened before this time.")] = None
    tags: Annotated[list[str] | None, Field(max_length=20, description="Has every one of these tags.")] = None
    absent: Annotated[
        bool | None,
        Field(
            description=(
                "true: only memories that their source no longer has; false: only those that it has. By default both; "
                "those that left rank lower and have absent_since."
            )
        ),
    ] = None
    collapse: Collapse = True
    budget_tokens: Budget = 4000


class _MemoryArguments(Arguments):
    system_id: Annotated[str, Field(description="`system_id` of a result.")]
    kind: Annotated[str, Field(description="`kind` of a result: conversation or reflection.")]
    id: Annotated[str, Field(description="`id` of a result.")]


class SimilarArguments(_MemoryArguments):
    """Arguments of `find_similar`."""

    limit: Limit = 10
    collapse: Collapse = True
    budget_tokens: Budget = 4000


class ReadArguments(_MemoryArguments):
    """Arguments of `read_memory`."""

    budget_tokens: Budget = 10_000


class ListArguments(Arguments):
    """Arguments of `list_systems`."""

    limit: Annotated[int, Field(ge=1, le=1000, description="Systems of one page at most.")] = 50
    cursor: Annotated[
        str | None, Field(max_length=500, description="`cursor` of the page before; null there means the last.")
    ] = None
