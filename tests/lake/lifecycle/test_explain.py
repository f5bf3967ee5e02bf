"""The explanation of a memory describes where it is stored, not where the policy would put it."""

from pathlib import Path

import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import NotFound
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.lifecycle.aging import age_day
from akosha_assets.lake.lifecycle.explain import Explanation, explain
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle.warm import Move
from tests.lake.lifecycle.memories import NOW, TODAY, days_ago, hot_rows, store

WHO = ("system-1", "conversation", "id-000001")


def told(lake: Lake) -> Explanation:
    ledger = Ledger.open(lake.settings)
    try:
        return explain(lake, ledger, *WHO, policy=TierPolicy.of(lake.settings), today=TODAY)
    finally:
        ledger.close()


def test_an_explanation_has_tier_next_move_files_and_origin(lake: Lake) -> None:
    policy = TierPolicy.of(lake.settings)
    store(lake, hot_rows(days_ago(20), 120))
    before = told(lake)
    assert before.tier == "hot" and "belongs in warm" in before.reason and before.moved_at is None
    age_day(lake, days_ago(20), move=Move(policy, NOW, "run-7"), today=TODAY)
    after = told(lake)
    assert (after.tier, after.next_tier, after.moves_on) == ("warm", "cold", days_ago(20 - policy.warm_days))
    assert (after.policy_version, after.aged_by, after.upload_id, after.batch_id) == (
        policy.version,
        "run-7",
        "upload-1",
        1,
    )
    assert after.policy == policy.json and after.recall_at_10 > 0.97
    assert all(Path(file).is_file() for file in after.files) and after.files
    assert after.also_in == []


def test_the_explanation_of_a_changed_memory_lists_its_hidden_older_form(lake: Lake) -> None:
    store(lake, hot_rows(days_ago(20), 10))
    age_day(lake, days_ago(20), move=Move(TierPolicy.of(lake.settings), NOW, "run-7"), today=TODAY)
    store(lake, hot_rows(days_ago(20), 10, batch=2, words="again", snapshot=3), batch=2)
    assert (told(lake).tier, told(lake).also_in) == ("hot", ["warm"])


def test_an_unknown_memory_is_not_found(lake: Lake) -> None:
    with pytest.raises(NotFound, match="system-1/conversation/id-000001"):
        told(lake)
