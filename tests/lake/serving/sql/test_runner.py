"""SQL of untrusted callers: what it can read, and its limits."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import InvalidRequest, StoreUnavailable
from akosha_assets.lake.serving.sql import runner as sql_module
from akosha_assets.lake.serving.sql.runner import SqlLimits, run
from akosha_assets.lake.settings import LakeSettings
from tests.hot_rows import commit, commit_to_tier, memory

LIMITS = SqlLimits(seconds=5, max_rows=3)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    created = Lake(LakeSettings(home=tmp_path_factory.mktemp("akosha")))
    commit(
        created,
        1,
        memory("1", "one"),
        memory("2", "two", system="laptop-bob"),
        memory("w", "newer", age=timedelta(days=20)),
    )
    commit_to_tier(
        created, 1, "warm", memory("w", "older", age=timedelta(days=20)), memory("v", "warm", age=timedelta(days=20))
    )
    return created


def test_each_tier_is_a_view_and_memories_has_every_memory_once(lake: Lake) -> None:
    answer = run(lake, "SELECT tier, count(*) AS n FROM memories GROUP BY tier ORDER BY tier", LIMITS)
    assert answer.table.to_pylist() == [{"tier": "hot", "n": 3}, {"tier": "warm", "n": 1}]
    assert answer.versions["hot"] == 1
    assert run(lake, "SELECT id FROM cold", LIMITS).table.num_rows == 0
    assert run(lake, "SHOW TABLES", SqlLimits()).table["name"].to_pylist() == ["cold", "hot", "memories", "warm"]


def test_tables_of_many_files_are_read(tmp_path: Path) -> None:
    created = Lake(LakeSettings(home=tmp_path))
    commit(created, 1, *(memory(str(day), "one", age=timedelta(days=day)) for day in range(100)))
    assert run(created, "SELECT count(*) AS n FROM memories", LIMITS).table.to_pylist() == [{"n": 100}]


def test_rows_beyond_the_limit_are_cut_and_is_truncated_is_true(lake: Lake) -> None:
    answer = run(lake, "SELECT * FROM range(10)", LIMITS)
    assert (answer.table.num_rows, answer.is_truncated) == (3, True)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("DROP VIEW hot", "one SELECT"),
        ("SELECT 1; SELECT 2", "one SELECT"),
        ("COPY (SELECT 1) TO '/tmp/akosha-stolen'", "one SELECT"),
        ("ATTACH '/tmp/akosha.db'", "one SELECT"),
        ("SET enable_external_access = true", "one SELECT"),
        ("SELECT * FROM read_text('/etc/passwd')", "table function read_text"),
        ("SELECT * FROM read_csv('http://127.0.0.1:1/x')", "."),
        ("SELECT * FROM glob('/etc/*')", "table function glob"),
        ("SELECT nonsense FROM hot", "nonsense"),
        ("SELECT projct FROM hot", 'Candidate bindings: .*"project"'),
        ("SELECT * FROM hott", 'did you mean "hot"'),
        ("DELETE FROM hot; SELECT 1", "found DELETE, SELECT"),
        ("EXPLAIN SELECT 1", "found EXPLAIN"),
        (" ", "found none"),
        ("not sql", "syntax"),
        ("SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b", "took longer than 5 s;"),
    ],
)
def test_a_query_that_does_more_than_read_is_refused(lake: Lake, sql: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        run(lake, sql, LIMITS)
    assert not Path("/tmp/akosha-stolen").exists()


@pytest.mark.parametrize("sql", ["SELECT repeat('x', 3000000000)", "SELECT length(repeat('x', 1300000000))"])
def test_a_query_ends_at_its_memory_limit(lake: Lake, sql: str) -> None:
    with pytest.raises(InvalidRequest, match="needed more than 1073741824 bytes;"):
        # A busy machine takes many seconds to write that much.
        run(lake, sql, replace(LIMITS, seconds=60))


def written(home: Path) -> Lake:
    """A lake with a row in hot and one in cold."""
    created = Lake(LakeSettings(home=home))
    commit(created, 1, memory("1", "one"))
    commit_to_tier(created, 1, "cold", memory("c", "cold", age=timedelta(days=200)))
    return created


def truncated(hot: Path) -> None:
    log = max((hot / "_delta_log").glob("*.json"))
    log.write_bytes(log.read_bytes()[:200])


def without_log(hot: Path) -> None:
    (hot / "_delta_log").rename(hot.parent / "moved")


def without_files(hot: Path) -> None:
    for file in hot.rglob("*.parquet"):
        file.unlink()


def damaged(hot: Path) -> None:
    for file in hot.rglob("*.parquet"):
        file.write_bytes(file.read_bytes()[:100])


@pytest.mark.parametrize("harm", [truncated, without_log, without_files, damaged])
def test_only_queries_that_read_an_unreadable_table_are_refused(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    created = written(tmp_path)
    harm(tmp_path / "lake/lifecycle/hot")
    for sql in (
        "SELECT count(*) AS n FROM hot",
        "SELECT id FROM memories",
        "SELECT 1 WHERE EXISTS (FROM hot)",
        "DESCRIBE hot",
    ):
        with pytest.raises(StoreUnavailable, match=r"lifecycle/hot (did not answer|was written to)"):
            run(created, sql, SqlLimits(seconds=60), written=("hot", "cold"))
    assert run(created, "SELECT id FROM cold", SqlLimits(seconds=60), written=("hot", "cold")).table.num_rows == 1
    assert run(created, "SELECT id FROM warm", SqlLimits(seconds=60), written=("hot", "cold")).table.num_rows == 0
    assert run(created, "SHOW TABLES", SqlLimits(), written=("hot", "cold")).table["name"].to_pylist() == [
        "cold",
        "hot",
        "memories",
        "warm",
    ]


HOSTILE = (
    "WITH x AS (COPY (SELECT 1) TO '{hot}/new.csv' (USE_TMP_FILE false)) FROM x",
    "WITH x AS (COPY (SELECT 1 WHERE false) TO '{part}' (FORMAT csv, HEADER false)) FROM x",
    "WITH x AS (COPY (SELECT 1 a, 2 b) TO '{hot}' (FORMAT parquet, PARTITION_BY (a), OVERWRITE true)) FROM x",
    "WITH x AS (COPY (SELECT 1 a) TO '{hot}/_delta_log' (FORMAT csv, PER_THREAD_OUTPUT true, OVERWRITE true)) FROM x",
    "FROM hot WHERE EXISTS (FROM (WITH x AS (COPY hot TO '{part}') FROM x))",
    "SELECT (WITH x AS (INSERT INTO hot SELECT * FROM hot RETURNING id) SELECT id FROM x)",
    "WITH x AS (DELETE FROM hot RETURNING *) FROM x",
    "ATTACH '{hot}/x.duckdb'; SELECT 1",
    "EXPORT DATABASE '{hot}'",
    "FROM read_parquet('{part}')",
    "FROM '{part}'",
    """WITH "{part}" AS (SELECT 1) SELECT * FROM hot, (FROM '{part}')""",
    "SELECT getenv('HOME')",
    "SELECT write_log('x')",
    "FROM query('COPY hot TO ''{part}'' ')",
)


def test_no_statement_changes_a_byte_of_the_lake(tmp_path: Path) -> None:
    created = written(tmp_path)
    part = next((tmp_path / "lake/lifecycle/hot").rglob("*.parquet"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for statement in HOSTILE:
        with pytest.raises(InvalidRequest, match="query: "):
            run(created, statement.format(hot=tmp_path / "lake/lifecycle/hot", part=part), LIMITS)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_missing_wall_of_the_sandbox_is_logged_once(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sql_module, "sandbox_level", lambda: "calls")
    sql_module._log_missing_walls.cache_clear()
    with caplog.at_level("WARNING", logger=sql_module.__name__):
        for _ in range(2):
            run(lake, "SELECT 1", LIMITS)
    sql_module._log_missing_walls.cache_clear()
    assert [vars(record)["missing"] for record in caplog.records] == [["landlock", "network"]]
