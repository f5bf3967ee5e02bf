"""Converts values that JSON cannot represent to text inside DuckDB: one expression for each column, by its type.

SQL has a wider range of times than Arrow and Python, so the conversion must run in the query's own process.
Numbers are converted by the route.
"""

from itertools import count

from duckdb import DuckDBPyRelation
from duckdb.sqltypes import DuckDBPyType

from akosha_assets.lake.quoting import identifier

NUMBERS = (
    "tinyint",
    "smallint",
    "integer",
    "bigint",
    "utinyint",
    "usmallint",
    "uinteger",
    "ubigint",
    "hugeint",
    "decimal",
    "float",
    "double",
)
JSON_TYPES = (*NUMBERS, "boolean", "varchar", "null")
NESTED_TYPES = ("list", "array", "struct", "map")


def projection(relation: DuckDBPyRelation) -> str:
    """Expressions for the columns of `relation` in their order; repeated names get a number after them."""
    names = _distinct(relation.columns)
    return ", ".join(
        _expression(position, name, type)
        for position, (name, type) in enumerate(zip(names, relation.types, strict=True), 1)
    )


def _expression(position: int, name: str, type: DuckDBPyType) -> str:
    target = _json_type(type)
    value = f"#{position}" if target is None else f"CAST(#{position} AS {target})"
    return f"{value} AS {identifier(name)}"


def _json_type(type: DuckDBPyType) -> str | None:
    """The type to which values of `type` are cast; None if they need no cast."""
    if type.id in JSON_TYPES:
        return None
    if type.id not in NESTED_TYPES:
        return "VARCHAR"
    # The children of an array include its size.
    children = {name: child for name, child in type.children if isinstance(child, DuckDBPyType)}
    casts = {name: _json_type(child) for name, child in children.items()}
    if not any(casts.values()):
        return None
    # A column of NULLs has the type `null`, which no cast accepts; NULLs fit any type.
    targets = {
        name: casts[name] or ("INTEGER" if child.id == "null" else str(child)) for name, child in children.items()
    }
    if type.id == "struct":
        return f"STRUCT({', '.join(f'{identifier(name)} {target}' for name, target in targets.items())})"
    if type.id == "map":
        return f"MAP({', '.join(targets.values())})"
    (element,) = targets.values()
    return f"{element}[{dict(type.children)['size'] if type.id == 'array' else ''}]"


def _distinct(names: list[str]) -> list[str]:
    distinct: list[str] = []
    for name in names:
        numbered = (f"{name}_{number}" for number in count(1))
        distinct.append(name if name not in distinct else next(each for each in numbered if each not in distinct))
    return distinct
