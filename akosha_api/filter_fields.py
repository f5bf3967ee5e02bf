"""The filters that searches and exports have in common."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictFloat, StrictInt

from akosha_api.validation_errors import Time
from akosha_assets.lake.serving.parts.part import CODED
from akosha_assets.lake.serving.query import Filters

OneOrMore = str | Annotated[list[str], Field(max_length=100)]
# An empty form field or an unset variable is not a time.
OptionalTime = Annotated[Time | None, BeforeValidator(lambda value: None if value == "" else value)]
OptionalBool = Annotated[StrictBool | None, BeforeValidator(lambda value: None if value == "" else value)]


def _given(value: str | list[str] | None) -> tuple[str, ...]:
    """The values of a filter that are not empty."""
    values = [value] if isinstance(value, str) else value or []
    return tuple(one for one in values if one.strip())


class FilterFields(BaseModel):
    """Filters that a memory must all pass before it is ranked. Null, an empty string or an empty list is no filter."""

    model_config = ConfigDict(extra="forbid")

    system_id: OneOrMore | None = None
    project: OneOrMore | None = None
    kind: OneOrMore | None = None
    namespace: OneOrMore | None = None
    category: OneOrMore | None = None
    source_type: OneOrMore | None = None
    tags: Annotated[list[str] | None, Field(max_length=20, description="The memory has every one of these.")] = None
    importance_min: Annotated[StrictFloat | None, Field(ge=0, le=1)] = None
    since: Annotated[OptionalTime, Field(description="It happened at this time or later.")] = None
    until: Annotated[OptionalTime, Field(description="It happened before this time.")] = None
    absent: Annotated[
        OptionalBool,
        Field(
            description=(
                "true: only memories that their source no longer has; false: only those that it has. By default both; "
                "those that left rank lower."
            )
        ),
    ] = None
    as_of: Annotated[
        StrictInt | Time | None,
        Field(
            description=(
                "An earlier version of the tables: a time, or a version of the hot table. Applies to hot and warm, "
                "as far back as their files are kept."
            )
        ),
    ] = None

    def filters(self) -> Filters:
        """The filters of the lake."""
        return Filters(
            equals={name: values for name in CODED if (values := _given(getattr(self, name)))},
            tags=_given(self.tags),
            since=self.since,
            until=self.until,
            importance_min=self.importance_min,
            absent=self.absent,
        )
