"""Converts pydantic's validation errors to `field` and `message`: what was expected and what was found."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ValidationError

from akosha_api.field_names import unknown_field

TIME_EXPECTED = "expected a time with its zone, for example 2026-11-01T08:00:00Z"
FOUND_CHARS = 100
# What a field must be, by pydantic's error type.
EXPECTED = {
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "date_type": "a date, for example 2026-11-01",
    "dict_type": "a JSON object",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "a JSON object",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "{min_length} or more characters",
    "string_type": "a string",
    "too_long": "a list of at most {max_length}",
    "too_short": "a list of {min_length} or more",
}
# Steps in the location of an error that name a member of a union and not a field.
TYPES = {"str", "list[str]", "int", "constrained-int", "datetime", "function-before[_not_a_number(), datetime]"}


def _not_a_number(value: Any) -> Any:
    """Refuses numbers, which pydantic would read as seconds or milliseconds since 1970."""
    if (isinstance(value, str) and "-" not in value[1:]) or isinstance(value, int | float):
        raise ValueError(TIME_EXPECTED)
    return value


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("expected text without NUL characters")
    return text


# A name that the ledger is asked for: PostgreSQL accepts no NUL.
Name = Annotated[str, AfterValidator(_without_nul)]
Time = Annotated[AwareDatetime, BeforeValidator(_not_a_number, json_schema_input_type=AwareDatetime)]


def locate(error: ValidationError, model: type[BaseModel]) -> list[dict[str, Any]]:
    """The details of an error of `model`, located in the body; for an unknown field also the names of the fields."""
    names = list(model.model_fields)
    return [
        {**detail, "loc": ("body", *detail["loc"])} | ({"names": names} if len(detail["loc"]) == 1 else {})
        for detail in error.errors(include_url=False)
    ]


def validation_fields(errors: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """`field` and `message` of each invalid field, once."""
    expected: dict[str, list[str]] = {}
    found: dict[str, str] = {}
    for error in errors:
        # The first step is body, query or path; for invalid JSON, a position follows.
        steps = () if error["type"] == "json_invalid" else error["loc"][1:]
        field = ".".join(str(step) for step in steps if step not in TYPES) or "body"
        expected.setdefault(field, []).append(_expected(error, field))
        found.setdefault(field, _found(error))
    return [
        {"field": field, "message": " or ".join(dict.fromkeys(texts)) + found[field]}
        for field, texts in expected.items()
    ]


def _expected(error: Mapping[str, Any], field: str) -> str:
    kind, text = error["type"], error["msg"]
    if kind == "json_invalid":
        where = (
            text.removeprefix("Invalid JSON: ")
            if len(error["loc"]) == 1
            else f"{error['ctx']['error']} at character {error['loc'][1]}"
        )
        return f"is not JSON ({where}); expected a JSON object"
    if kind == "model_attributes_type":
        return "expected a JSON object, sent as Content-Type: application/json"
    if kind == "extra_forbidden":
        return unknown_field(field, error.get("names", ()))
    if kind == "missing":
        return "is missing"
    if kind.startswith(("datetime_", "timezone_")):
        return TIME_EXPECTED
    if kind in EXPECTED:
        return "expected " + EXPECTED[kind].format_map(error.get("ctx", {}))
    return str(text.removeprefix("Value error, ").replace("Input should be", "expected"))


def _found(error: Mapping[str, Any]) -> str:
    value = error.get("input")
    if error["type"] in ("json_invalid", "missing", "extra_forbidden", "model_attributes_type"):
        return ""
    if isinstance(value, list | dict):
        return f"; found {f'a list of {len(value)}' if isinstance(value, list) else 'an object'}"
    # As in JSON, but strings in single quotes, which the JSON of the problem need not escape.
    is_constant = value is None or isinstance(value, bool)
    text = {None: "null", True: "true", False: "false"}[value] if is_constant else repr(value)
    return f"; found {text if len(text) <= FOUND_CHARS else text[:FOUND_CHARS] + '…'}"
