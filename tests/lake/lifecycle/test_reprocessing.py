"""Rows in warm and cold are reprocessed from the data that those tiers keep."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.embeddings import Embedder
from akosha_assets.lake.lifecycle.aging import age_day
from akosha_assets.lake.lifecycle.placement import locate
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle.reprocessing import (
    ReprocessableDay,
    ReprocessedDay,
    reprocess_day,
    reprocessable_days,
)
from akosha_assets.lake.lifecycle.warm import Move
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.tiers import Tier
from tests import tiny_model
from tests.lake.lifecycle.memories import NOW, SPACE, TODAY, days_ago, hot_rows, store

WHO = ("system-1", "conversation", "id-000001")


def test_full_text_stays_in_warm_if_the_policy_keeps_it_and_is_summarised_again(tmp_path: Path) -> None:
    lake = Lake(LakeSettings(home=tmp_path, warm_keeps="text", embedding_model=SPACE))
    policy = TierPolicy.of(lake.settings)
    store(lake, hot_rows(days_ago(9), 30))
    age_day(lake, days_ago(9), move=Move(policy, NOW, "first"), today=TODAY)
    row = locate(lake, *WHO).row
    assert row["text"].startswith("Build 1 failed.") and row["attributes"] is None
    later = replace(policy, summary_method="another/2", warm_sentences=1)
    renewed = reprocess_day(lake, Tier.WARM, days_ago(9), policy=later, renewed_at=NOW, run="again", embedder=None)
    assert renewed == ReprocessedDay(days_ago(9), Tier.WARM, 30, 0, 0, 0)
    row = locate(lake, *WHO).row
    assert (row["summary_method"], row["summary"].count(". "), row["aged_by"]) == ("another/2", 0, "again")
    assert reprocessable_days(lake, Tier.WARM, later, first=days_ago(9), last=TODAY, space=SPACE) == {}


def test_rows_that_moved_without_a_vector_get_one_from_their_remaining_text(tmp_path: Path) -> None:
    lake = Lake(
        LakeSettings(
            home=tmp_path, embedding_model="akosha/tiny", embedding_model_dir=tiny_model.make(tmp_path / "model")
        )
    )
    policy, embedder = TierPolicy.of(lake.settings), Embedder.load(lake.settings)
    for age, tier in ((9, Tier.WARM), (100, Tier.COLD)):
        store(lake, hot_rows(days_ago(age), 20, embedded=False), batch=age)
        store(lake, hot_rows(days_ago(age), 20, first=20, batch=age), batch=age + 1)
        age_day(lake, days_ago(age), move=Move(policy, NOW, "first"), today=TODAY)
        found = reprocessable_days(lake, tier, policy, first=days_ago(age), last=days_ago(age), space="akosha/tiny")
        assert found == {days_ago(age): ReprocessableDay(embedded=20, left=20)}
        before = {row["id"]: row for row in rows(lake, tier)}
        assert (
            reprocess_day(
                lake, tier, days_ago(age), policy=policy, renewed_at=NOW, run="again", embedder=embedder
            ).rows_embedded
            == 20
        )
        after = {row["id"]: row for row in rows(lake, tier)}
        assert {row["space"] for row in after.values()} == {"akosha/tiny", "test-space"}
        form, length = ("vector", 384) if tier == Tier.WARM else ("sketch", 48)
        assert {len(row[form]) for row in after.values()} == {length}
        assert [after[name] for name in after if name >= "id-000020"] == [
            before[name] for name in after if name >= "id-000020"
        ]


def test_warm_vectors_take_another_form_from_their_own_numbers_and_sketches_stay(lake: Lake) -> None:
    policy = TierPolicy.of(lake.settings)
    for age in (9, 100):
        store(lake, hot_rows(days_ago(age), 30, batch=age), batch=age)
        age_day(lake, days_ago(age), move=Move(policy, NOW, "first"), today=TODAY)
    before = rows(lake, Tier.WARM)
    later = replace(policy, vector_method="int8-scale/2", sketch_method="rotated-sign/2")
    renewed = reprocess_day(lake, Tier.WARM, days_ago(9), policy=later, renewed_at=NOW, run="again", embedder=None)
    assert renewed == ReprocessedDay(days_ago(9), Tier.WARM, 0, 0, 30, 30)
    after = rows(lake, Tier.WARM)
    assert {row["policy_version"] for row in after} == {later.version} and {row["aged_by"] for row in after} == {
        "again"
    }
    # The code knows one form only, so the same numbers come out.
    assert [row["vector"] for row in after] == [row["vector"] for row in before]
    assert reprocessable_days(lake, Tier.WARM, later, first=days_ago(9), last=TODAY, space=None) == {}
    renewed = reprocess_day(lake, Tier.COLD, days_ago(100), policy=later, renewed_at=NOW, run="again", embedder=None)
    assert renewed == ReprocessedDay(days_ago(100), Tier.COLD, 0, 0, 0, 30)
    assert {row["policy_version"] for row in rows(lake, Tier.COLD)} == {policy.version}


def test_vectors_of_another_model_are_recomputed_only_from_full_text(tmp_path: Path) -> None:
    model = tiny_model.make(tmp_path / "model")
    for keeps, expected in (("text", (20, 0)), ("", (0, 20))):
        lake = Lake(
            LakeSettings(
                home=tmp_path / f"home-{keeps}",
                warm_keeps=keeps,
                embedding_model="akosha/tiny",
                embedding_model_dir=model,
            )
        )
        policy = TierPolicy.of(lake.settings)
        store(lake, hot_rows(days_ago(9), 20))
        age_day(lake, days_ago(9), move=Move(policy, NOW, "first"), today=TODAY)
        embedder = Embedder.load(lake.settings)
        renewed = reprocess_day(
            lake, Tier.WARM, days_ago(9), policy=policy, renewed_at=NOW, run="again", embedder=embedder
        )
        assert (renewed.rows_embedded, renewed.rows_left) == expected
        assert {row["space"] for row in rows(lake, Tier.WARM)} == {"akosha/tiny" if keeps else SPACE}


def rows(lake: Lake, tier: str) -> list[dict[str, Any]]:
    return lake.select(f"lifecycle/{tier}", lake.spec(f"lifecycle/{tier}").schema.names).sort_by("id").to_pylist()


def test_a_new_model_cuts_the_texts_that_warm_keeps_and_no_summaries(tmp_path: Path) -> None:
    model = tiny_model.make(tmp_path / "model")
    for keeps in ("text", ""):
        home = tmp_path / f"home-{keeps}"
        lake = Lake(LakeSettings(home=home, warm_keeps=keeps, embedding_model="akosha/tiny", embedding_model_dir=model))
        policy, embedder = TierPolicy.of(lake.settings), Embedder.load(lake.settings)
        day = days_ago(9)
        store(lake, hot_rows(day, 2, words="redis eviction. " * 300, embedded=bool(keeps)))
        age_day(lake, day, move=Move(policy, NOW, "first"), today=TODAY)
        reprocess_day(lake, Tier.WARM, day, policy=policy, renewed_at=NOW, run="again", embedder=embedder)
        for row in rows(lake, Tier.WARM):
            assert (row["space"], len(row["vector"])) == ("akosha/tiny", 384)
            counts = [len(row[name] or b"") for name in ("passages", "passage_scales", "passage_ranges")]
            passages = counts[0] // 384
            assert counts == ([384 * passages, 4 * passages, 8 * (passages + 1)] if keeps else [0, 0, 0])
            assert bool(passages) == bool(keeps)
