"""Errors of other libraries become ours: their message without the native backtrace."""

from pathlib import Path

import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import DataFileUnreadable, StoreUnavailable, TableContended, TableUnreadable, clean_cause
from akosha_assets.lake.telemetry import mask_secrets
from tests.hot_rows import commit, memory


def test_the_error_for_a_damaged_log_has_no_backtrace(lake: Lake) -> None:
    commit(lake, 1, memory("1", "one"))
    log = max(Path(lake.uri("lifecycle/hot"), "_delta_log").glob("*.json"))
    log.write_bytes(log.read_bytes()[:200])
    with pytest.raises(StoreUnavailable) as refused:
        lake.open("lifecycle/hot")
    said = str(refused.value)
    assert "did not answer: Kernel error: Json error" in said and said.endswith(". Nothing is lost; try again.")
    assert "unknown" not in said and "\n" not in said


def test_a_cause_is_cut_where_its_backtrace_begins() -> None:
    said = str(TableContended("t", 3, "conflict\n\nStack backtrace:\n   0: <unknown>\n   1: clone3\n"))
    assert "(last: conflict)" in said


def test_causes_and_log_lines_that_strangers_fill_are_cleaned_in_one_pass() -> None:
    # Expressions that try every split of such a run would not come back.
    assert clean_cause("conflict" + "\n" * 300_000 + "end") == "conflict end"
    assert clean_cause("conflict" + " \n\t" * 100_000 + "\n 0: <unknown>") == "conflict"
    assert mask_secrets("://" + ":" * 300_000) == "://" + ":" * 300_000
    assert mask_secrets("s3://user:pass:word@host") == "s3://***@host"


def test_only_a_store_that_may_come_back_promises_that_nothing_is_lost() -> None:
    assert str(StoreUnavailable("s3://lake/t", "refused")).endswith(
        "did not answer: refused. Nothing is lost; try again."
    )
    for broken in (DataFileUnreadable("s3://lake/t", "bad magic"), TableUnreadable("s3://lake/t", "has no log now")):
        assert "Nothing is lost" not in str(broken) and "docs/runbooks/" in str(broken)
