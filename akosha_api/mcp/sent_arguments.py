"""Brings the arguments that MCP clients send into the form that the tools take.

Models and form fields fill optional arguments with null, `""` or `[]`, encode lists as JSON text, and put filters into
an object `filters`. None of these is a value that a memory can have, so each has one meaning.
"""

import re
from collections.abc import Mapping
from typing import Any, get_args

import orjson
from pydantic import BaseModel

from akosha_api.field_names import FILTERS, unknown_field
from akosha_assets.lake.errors import InvalidRequest

# JSON text of a list or an object.
JSON_TEXT = re.compile(r"\s*[\[{].*[\]}]\s*", re.DOTALL)
FILTERS_OBJECT = "filters"


def normalize(arguments: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """The arguments without optional ones that are empty, with lists instead of their JSON text, and with the members
    of `filters` as arguments of their own.

    Raises:
        InvalidRequest: `filters` is not an object, has an unknown member, or one with another value than the argument.
    """
    given = dict(arguments)
    if FILTERS_OBJECT in given and FILTERS_OBJECT not in model.model_fields:
        names = [name for name in FILTERS if name in model.model_fields and not model.model_fields[name].is_required()]
        if _is_empty(given[FILTERS_OBJECT]) or names:
            _merge(given, _members(given.pop(FILTERS_OBJECT), names))
    result = {}
    for name, value in given.items():
        field = model.model_fields.get(name)
        if field is not None and _takes_list(field.annotation):
            value = _list_of(value, takes_text=str in get_args(field.annotation))
        if field is None or field.is_required() or not _is_empty(value):
            result[name] = value
    return result


def _merge(given: dict[str, Any], members: Mapping[str, Any]) -> None:
    """Adds the members of `filters` to the arguments `given`."""
    for name, value in members.items():
        if not _is_empty(given.get(name)) and given[name] != value:
            raise InvalidRequest(f"{FILTERS_OBJECT}.{name}", f"differs from the argument {name}; expected {name} once")
        given[name] = value


def _members(filters: Any, names: list[str]) -> dict[str, Any]:
    """The members of the argument `filters` that are not empty; `names` are allowed."""
    filters = _parsed(filters)
    if _is_empty(filters):
        return {}
    if not isinstance(filters, dict):
        raise InvalidRequest(FILTERS_OBJECT, f"expected an object with some of {', '.join(names)}")
    members = {name: value for name, value in filters.items() if not _is_empty(value)}
    for name in members:
        if name not in names:
            raise InvalidRequest(f"{FILTERS_OBJECT}.{name}", unknown_field(name, names))
    return members


def _list_of(value: Any, *, takes_text: bool) -> Any:
    """The value of an argument that takes a list: without empty texts, and a list if it is the JSON text of one."""
    value = _parsed(value)
    if isinstance(value, str) and value.strip() and not takes_text:
        return [value]
    if isinstance(value, list):
        return [one for one in value if not _is_empty(one)]
    return value


def _takes_list(annotation: Any) -> bool:
    """Whether a type is a list or a union with one."""
    return getattr(annotation, "__origin__", None) is list or any(_takes_list(each) for each in get_args(annotation))


def _parsed(value: Any) -> Any:
    """The list or object that a text encodes; any other value as it is."""
    if not isinstance(value, str) or not JSON_TEXT.fullmatch(value):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


def _is_empty(value: Any) -> bool:
    return value is None or value in ([], {}) or (isinstance(value, str) and not value.strip())
