"""The check of statements finds what is forbidden at every depth and allows what only reads."""

from collections.abc import Iterator

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akosha_assets.lake.serving.sql.statement import REFUSED_FUNCTIONS, refused_in

VIEWS = ("hot", "memories")


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"autoload_known_extensions": "false"}) as opened:
        opened.execute("CREATE VIEW hot AS SELECT 1 AS n, 'x' AS id, ['t'] AS tags")
        opened.execute("CREATE VIEW memories AS FROM hot")
        yield opened


READING = st.sampled_from(
    (
        "SELECT * FROM hot",
        "FROM memories",
        "SELECT count(*) FROM HOT",
        "SELECT n FROM hot, range(3) r",
        "VALUES (1)",
        "SELECT unnest(tags) FROM hot",
        "FROM hot TABLESAMPLE 10%",
        "FROM json_each('[1]')",
    )
)
FORBIDDEN = st.sampled_from(
    (
        "WITH w AS (COPY (SELECT 1) TO '/tmp/x.csv') FROM w",
        "WITH w AS (COPY hot TO '/tmp/x' (FORMAT parquet)) FROM w",
        "WITH w AS (INSERT INTO hot VALUES (1) RETURNING *) FROM w",
        "WITH w AS (DELETE FROM hot RETURNING *) FROM w",
        "WITH w AS (UPDATE hot SET n = 2 RETURNING *) FROM w",
        "FROM read_csv('/etc/passwd')",
        "FROM READ_TEXT('/etc/passwd')",
        "FROM glob('/*')",
        "FROM duckdb_settings()",
        "FROM parquet_metadata('x')",
        "FROM '/etc/passwd.csv'",
        "FROM information_schema.tables",
        "FROM query('FROM hot')",
        "SELECT GetEnv('HOME')",
        "SELECT current_setting('allowed_directories')",
        "SELECT write_log('x')",
        "SELECT Write_Log('x') OVER ()",
        "SELECT nextval('s')",
        "FROM hot AT (VERSION => 1)",
    )
)
WRAPPINGS = st.lists(
    st.sampled_from(
        (
            "SELECT * FROM ({0})",
            "SELECT (SELECT 1 FROM ({0}))",
            "SELECT 1 WHERE EXISTS ({0})",
            "WITH a AS ({0}) SELECT 1 FROM a",
            "WITH a AS MATERIALIZED ({0}) FROM hot",
            "(SELECT 1 FROM hot) UNION ALL (SELECT 1 FROM ({0}))",
            "FROM hot, LATERAL (SELECT 1 FROM ({0}))",
            "SELECT list_transform([1], x -> (SELECT 1 FROM ({0}) LIMIT 1))",
            "SELECT 1 FROM hot ORDER BY (SELECT 1 FROM ({0}) LIMIT 1)",
            "SELECT 1 FROM hot GROUP BY ALL HAVING (SELECT count(*) FROM ({0})) >= 0",
            "SELECT 1 FROM hot JOIN hot h ON EXISTS ({0})",
            "SELECT CASE WHEN true THEN (SELECT 1 FROM ({0}) LIMIT 1) END",
            (
                "WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM r WHERE x < (SELECT count(*) FROM "
                "({0}))) FROM r"
            ),
            "DESCRIBE {0}",
            "/* a comment; */ SELECT * FROM ({0}) -- COPY\n",
        )
    ),
    max_size=4,
)


def wrapped(inner: str, wrappings: list[str]) -> str:
    for wrapping in wrappings:
        is_last = wrapping is wrappings[-1]
        if is_last or not wrapping.startswith(("DESCRIBE", "/*")):
            inner = wrapping.format(inner)
    return inner


@settings(max_examples=150, deadline=None)
@given(inner=FORBIDDEN, wrappings=WRAPPINGS)
def test_a_forbidden_statement_is_found_at_every_depth(
    connection: duckdb.DuckDBPyConnection, inner: str, wrappings: list[str]
) -> None:
    try:
        assert refused_in(connection, wrapped(inner, wrappings), VIEWS) is not None
    except duckdb.Error as error:
        assert "Parser Error" in str(error)


@settings(max_examples=60, deadline=None)
@given(inner=READING, wrappings=WRAPPINGS)
def test_a_query_that_only_reads_is_allowed(
    connection: duckdb.DuckDBPyConnection, inner: str, wrappings: list[str]
) -> None:
    assert refused_in(connection, wrapped(inner, wrappings), VIEWS) is None


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("WITH a AS (COPY hot TO 'x') FROM a", "found COPY; expected one SELECT"),
        ("SELECT 1; SELECT 2", "found SELECT, SELECT"),
        ("PRAGMA version", "expected one SELECT statement"),
        ("CALL pragma_version()", "expected one SELECT statement"),
        ("SET threads = 2", "expected one SELECT statement"),
        ("FROM read_csv('x')", "the table function read_csv"),
        ("""WITH "a.csv" AS (SELECT 1) SELECT * FROM 'a.csv'""", "the table a.csv"),
    ],
)
def test_the_refusal_names_what_was_found(connection: duckdb.DuckDBPyConnection, sql: str, named: str) -> None:
    assert named in (refused_in(connection, sql, VIEWS) or "")


def test_a_query_nested_too_deeply_is_refused(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(duckdb.Error):
        refused_in(connection, "SELECT " + "(" * 5000 + "1" + ")" * 5000, VIEWS)


# Functions that DuckDB marks as having side effects and that change nothing but the value they return.
WITHOUT_EFFECT = {"random", "uuid", "uuidv4", "uuidv7", "gen_random_uuid", "error", "stats", "vector_type"}
WITHOUT_EFFECT |= {"current_connection_id", "current_query_id", "current_transaction_id"}


def test_every_function_with_an_effect_is_refused(connection: duckdb.DuckDBPyConnection) -> None:
    found = connection.execute(
        "SELECT DISTINCT lower(function_name) FROM duckdb_functions() WHERE has_side_effects"
    ).fetchall()
    assert {name for (name,) in found} - WITHOUT_EFFECT - REFUSED_FUNCTIONS == set()
