"""What JSON cannot hold becomes text before a result leaves DuckDB: an expression for each column, by its type.

Arrow and Python have narrower times than SQL, so this must happen in the query's own process. What is then made of
numbers is the route's business.
"""

from itertools import count

from duckdb import DuckDBPyRelation
from duckdb.sqltypes import DuckDBPyType

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
PLAIN = (*NUMBERS, "boolean", "varchar", "null")


def projection(relation: DuckDBPyRelation) -> str:
    """Expressions for the columns of `relation`, in their order; a name that comes again has a number after it."""
    names = _distinct(relation.columns)
    return ", ".join(
        _expression(at, name, kind) for at, (name, kind) in enumerate(zip(names, relation.types, strict=True), 1)
    )


def _expression(at: int, name: str, kind: DuckDBPyType) -> str:
    shown = _shown(kind)
    return (f"#{at}" if shown is None else f"CAST(#{at} AS {shown})") + f" AS {_quoted(name)}"


def _shown(kind: DuckDBPyType) -> str | None:
    """The type in which values of `kind` are shown; None where that is `kind` itself."""
    if kind.id in PLAIN:
        return None
    if kind.id not in ("list", "array", "struct", "map"):
        return "VARCHAR"
    # An array has its size among its children.
    children = {name: child for name, child in kind.children if isinstance(child, DuckDBPyType)}
    size = dict(kind.children)["size"] if kind.id == "array" else None
    shown = {name: _shown(child) for name, child in children.items()}
    if not any(shown.values()):
        return None
    # Nothing but NULL is of no type by itself, and can be of any.
    told = {name: shown[name] or ("INTEGER" if child.id == "null" else str(child)) for name, child in children.items()}
    if kind.id == "struct":
        return f"STRUCT({', '.join(f'{_quoted(name)} {text}' for name, text in told.items())})"
    if kind.id == "map":
        return f"MAP({', '.join(told.values())})"
    return "".join(told.values()) + ("[]" if size is None else f"[{size}]")


def _distinct(names: list[str]) -> list[str]:
    made: list[str] = []
    for name in names:
        numbered = (f"{name}_{number}" for number in count(1))
        made.append(name if name not in made else next(each for each in numbered if each not in made))
    return made


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
