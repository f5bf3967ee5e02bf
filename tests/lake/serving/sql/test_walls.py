"""Each wall of the sandbox alone protects every byte of the lake, without the check of statements."""

import hashlib
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.extraction.sandbox import landlock_version
from akosha_assets.lake.ingestion.extraction.system_calls import has_filter
from akosha_assets.lake.settings import LakeSettings
from tests.hot_rows import commit, commit_to_tier, memory


def made_lake(home: Path) -> Lake:
    lake = Lake(LakeSettings(home=home))
    commit(lake, 1, memory("1", "one"), memory("2", "two", age=timedelta(days=2)))
    commit_to_tier(lake, 1, "warm", memory("w", "warm", age=timedelta(days=20)))
    return lake


def content_of(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Every file below `folder` with its mode, its time and the hash of its bytes."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mode,
            path.stat().st_mtime_ns,
        )
        for path in files
    }


def hostile_statements(hot: Path) -> list[str]:
    part = next(hot.rglob("*.parquet"))
    log = hot / "_delta_log/00000000000000000000.json"
    copies = [
        f"COPY (SELECT 1) TO '{hot}/y.csv' (USE_TMP_FILE false)",
        f"COPY (SELECT 1 WHERE false) TO '{part}' (FORMAT csv, HEADER false, USE_TMP_FILE false)",
        f"COPY (SELECT 1 WHERE false) TO '{part}' (FORMAT csv, HEADER false)",
        f"COPY (SELECT 1) TO '{part}' (FORMAT parquet, USE_TMP_FILE false)",
        f"COPY (SELECT 1) TO '{log}' (FORMAT csv, USE_TMP_FILE false)",
        f"COPY (SELECT 1 AS a, 2 AS b) TO '{hot}' (FORMAT parquet, PARTITION_BY (a), OVERWRITE true)",
        f"COPY (SELECT 1 AS a, 2 AS b) TO '{part.parent}' (FORMAT csv, PARTITION_BY (a), OVERWRITE true)",
        f"COPY (SELECT 1) TO '{part.parent}' (FORMAT csv, PER_THREAD_OUTPUT true, OVERWRITE true)",
        f"COPY (SELECT 1 AS a, 2 AS b) TO '{hot}/_delta_log' (FORMAT csv, PER_THREAD_OUTPUT true, OVERWRITE true)",
        (
            f"COPY (SELECT 1 AS a, 2 AS b) TO ('{hot}/' || '_delta_log') (FORMAT csv, PER_THREAD_OUTPUT true, "
            "OVERWRITE "
            "true)"
        ),
    ]
    return [
        *(f"WITH x AS ({copy}) SELECT * FROM x" for copy in copies),
        *copies,
        f"ATTACH '{hot}/x.duckdb'",
        f"EXPORT DATABASE '{hot}/x'",
    ]


# Statements and plain calls of the operating system, as code that took over the process would make them; no check of
# statements.
WITHOUT_CHECK = """
import json, os, sys
from pathlib import Path
from threading import Thread
from akosha_assets.lake.ingestion.extraction import sandbox, system_calls
from akosha_assets.lake.serving.sql.worker import _connection
request, without = json.loads(sys.argv[1]), sys.argv[2]
if without == "landlock":
    sandbox.landlock_version = lambda: 0
else:
    system_calls.has_filter = sandbox.has_filter = lambda: False
sandbox.confine([Path(folder) for folder in request["folders"]], read_only=True)
connection = _connection(request, {})
done = []
for statement in request["statements"]:
    try:
        connection.execute(statement).fetchall()
        done.append(statement)
    except Exception as error:
        assert "No function" not in str(error), error
hot, file = request["folders"][0], request["files"]["hot"][0]
calls = {
    "open": lambda: open(file, "r+b").write(b"x"),
    "append": lambda: open(file, "ab").write(b"x"),
    "empty": lambda: open(file, "wb"),
    "truncate": lambda: os.truncate(file, 0),
    "rename": lambda: os.rename(file, file + ".x"),
    "unlink": lambda: os.unlink(file),
    "make": lambda: os.open(hot + "/new", os.O_CREAT | os.O_RDONLY),
    "nameless": lambda: os.open(hot, os.O_TMPFILE | os.O_RDWR),
    "folder": lambda: os.mkdir(hot + "/folder"),
    "link": lambda: os.symlink(file, hot + "/link"),
    "reopen": lambda: os.open(f"/proc/self/fd/{os.open(file, os.O_RDONLY)}", os.O_RDWR),
}
for name, call in calls.items():
    def tried():
        try:
            call()
            done.append(name)
        except OSError:
            pass
    tried()
rows = connection.execute("SELECT count(*) FROM memories").fetchone()[0]
sys.stdout.write(json.dumps([rows, done]))
sys.stdout.flush()
os._exit(0)
"""


@pytest.mark.skipif(not has_filter() or landlock_version() < 3, reason="this kernel lacks a wall of the sandbox")
@pytest.mark.parametrize("without", ["landlock", "seccomp"])
def test_one_wall_alone_keeps_every_byte_of_the_lake(tmp_path: Path, without: str) -> None:
    made_lake(tmp_path)
    folders = [tmp_path / "lake/lifecycle" / tier for tier in ("hot", "warm")]
    before = content_of(tmp_path)
    request = {
        "memory_bytes": 1 << 30,
        "files": {folder.name: [str(path) for path in folder.rglob("*.parquet")] for folder in folders} | {"cold": []},
        "folders": [str(folder) for folder in folders],
        "statements": hostile_statements(folders[0]),
    }
    command = [sys.executable, "-c", WITHOUT_CHECK, json.dumps(request), without]
    ran = subprocess.run(
        command, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )

    assert json.loads(ran.stdout or "null") == [3, []], ran.stderr
    assert content_of(tmp_path) == before
