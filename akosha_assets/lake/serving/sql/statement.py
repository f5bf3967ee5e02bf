"""Checks that a caller's SQL is one SELECT over the views, in DuckDB's parse tree and at every depth.

The statement type is not enough: DuckDB 2 accepts a COPY or an INSERT inside a CTE of a SELECT. So every node, table
and function of the tree must be known to only read. `sandbox.py` restricts the process besides.
"""

import json
import re
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from typing import Any

import duckdb

QUERY_NODES = frozenset(("SELECT_NODE", "SET_OPERATION_NODE", "CTE_NODE", "RECURSIVE_CTE_NODE"))
TABLE_REFERENCES = frozenset(
    ("BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EMPTY", "EMPTY_FROM", "EXPRESSION_LIST", "PIVOT", "SHOW_REF")
)
TABLE_FUNCTIONS = frozenset(
    ("range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree", "summary")
)
# Functions that reach outside the query: environment and settings of the process, its log, sequences, queries made of
# text, files, sleeping.
REFUSED_FUNCTIONS = frozenset(
    (
        *(
            "getenv",
            "current_setting",
            "getvariable",
            "in_search_path",
            "current_query",
            "write_log",
            "parse_duckdb_log_message",
        ),
        *("nextval", "currval", "setval", "setseed", "sleep_ms", "json_execute_serialized_sql", "query", "query_table"),
        *("add_parquet_key", "create_sort_key", "read_blob", "read_text", "sql_auto_complete", "which_secret"),
    )
)
# Table names of `SHOW TABLES` and `SHOW VIEWS`; DESCRIBE and SUMMARIZE have a query instead.
SHOWN = frozenset(("", '"tables"', '"views"'))
# A table name with such a character may be a path: DuckDB reads the file if no table has the name.
PATH_LIKE = re.compile(r"[^\w $-]")
ALLOWED = (
    "expected one SELECT over hot, warm, cold and memories, with table functions "
    f"{', '.join(sorted(TABLE_FUNCTIONS))} at most"
)


def refused_in(connection: duckdb.DuckDBPyConnection, sql: str, views: Collection[str]) -> str | None:
    """Why `sql` is refused: what was found and what is allowed; None if it is one SELECT that only reads `views`.

    Raises:
        duckdb.Error: it is not valid SQL.
    """
    kinds = [statement.type for statement in duckdb.extract_statements(sql)]
    if kinds != [duckdb.StatementType.SELECT]:
        return f"expected one SELECT statement; found {', '.join(kind.name for kind in kinds) or 'none'}"
    ((serialized,),) = connection.execute("SELECT json_serialize_sql($1)", [sql]).fetchall()
    try:
        tree = json.loads(serialized)
        if tree["error"]:
            return f"found what cannot be checked ({tree['error_message']}); {ALLOWED}"
        found = next(_refusals(tree["statements"], frozenset(view.casefold() for view in views)), None)
    except RecursionError:
        return f"found a query nested too deeply to check; {ALLOWED}"
    return None if found is None else f"found {found}; {ALLOWED}"


def _refusals(statements: list[dict[str, Any]], views: frozenset[str]) -> Iterator[str]:
    """What in the tree is not allowed. Names of CTEs count as views everywhere: out of scope they name nothing."""
    if len(statements) != 1:
        yield f"{len(statements)} statements"
    nodes: list[dict[str, Any]] = []
    known = set(views)
    stack: list[Any] = [statements]
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            stack += value
        elif isinstance(value, dict):
            stack += value.values()
            nodes.append(value)
            if isinstance(ctes := value.get("cte_map"), dict):
                known |= {str(entry["key"]).casefold() for entry in ctes["map"]}
            if value.get("type") in ("CTE_NODE", "RECURSIVE_CTE_NODE"):
                known.add(str(value.get("cte_name", "")).casefold())
    for node in nodes:
        yield from _node_refusals(node, known)


def _node_refusals(node: dict[str, Any], known: Collection[str]) -> Iterator[str]:
    kind = node.get("type")
    if isinstance(kind, str) and kind.endswith("_NODE") and kind not in QUERY_NODES:
        yield kind.removesuffix("_NODE").removesuffix("_QUERY").replace("_", " ")
    if "sample" in node and "alias" in node and kind not in TABLE_REFERENCES:
        yield f"a table reference of the kind {kind}"
    if kind == "BASE_TABLE":
        yield from _table_refusals(node, known)
    if kind == "TABLE_FUNCTION":
        function = node["function"]
        if function.get("type") != "FUNCTION" or str(function["function_name"]).casefold() not in TABLE_FUNCTIONS:
            yield f"the table function {function.get('function_name')}"
    if kind == "SHOW_REF" and node["query"] is None and node["table_name"] not in SHOWN:
        yield f"SHOW {node['table_name']}"
    # Window functions too.
    if "function_name" in node and str(node["function_name"]).casefold() in REFUSED_FUNCTIONS:
        yield f"the function {node['function_name']}"


def _table_refusals(node: dict[str, Any], known: Collection[str]) -> Iterator[str]:
    path = [str(name) for name in node["qualified_name"]["path"]]
    is_known = len(path) == 1 and path[0].casefold() in known and not PATH_LIKE.search(path[0])
    if not is_known or node["at_clause"] is not None:
        near = get_close_matches(path[-1].casefold(), sorted(known), 1)
        yield f"the table {'.'.join(path)}" + "".join(f' (did you mean "{name}"?)' for name in near)
