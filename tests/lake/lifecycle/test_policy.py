"""The policy maps event days to tiers."""

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from akosha_assets.lake.errors import InvalidSettings
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.settings import LakeSettings
from tests.lake.lifecycle.memories import TODAY, days_ago


@pytest.mark.parametrize(
    ("age_days", "tier"),
    [(-1, "hot"), (0, "hot"), (6, "hot"), (7, "warm"), (89, "warm"), (90, "cold"), (2550, "cold"), (2558, "expired")],
)
def test_the_tier_follows_the_age_of_the_event(settings: LakeSettings, age_days: int, tier: str) -> None:
    assert TierPolicy.of(settings).tier_of(days_ago(age_days), TODAY) == tier


def test_the_day_a_row_moves_is_the_first_day_of_its_next_tier(settings: LakeSettings) -> None:
    policy = TierPolicy.of(settings)
    day = date(2024, 2, 29)
    for tier, following in (("hot", "warm"), ("warm", "cold")):
        assert policy.tier_of(day, policy.moves_on(day, tier)) == following
    assert policy.moves_on(day, "cold") == date(2031, 2, 28)


@given(event_day=st.dates(), today=st.dates(), cold_years=st.integers(1, 10_000))
@settings_of_hypothesis(max_examples=200, deadline=None)
def test_every_day_of_the_calendar_has_a_tier(event_day: date, today: date, cold_years: int) -> None:
    policy = replace(TierPolicy.of(LakeSettings()), cold_years=cold_years)
    assert policy.tier_of(event_day, today) in ("hot", "warm", "cold", "expired")
    assert policy.moves_on(event_day, "hot") <= policy.moves_on(event_day, "warm")
    assert policy.moves_on(event_day, "cold") >= event_day


def test_any_change_of_the_policy_is_another_version(settings: LakeSettings) -> None:
    policy = TierPolicy.of(settings)
    assert policy.version == TierPolicy.of(settings).version
    assert (
        len({policy.version, replace(policy, hot_days=3).version, replace(policy, warm_keeps=("text",)).version}) == 3
    )


def test_windows_out_of_order_and_unknown_columns_are_refused() -> None:
    with pytest.raises(InvalidSettings, match="cannot leave warm before"):
        LakeSettings(hot_days=100)
    with pytest.raises(InvalidSettings, match="warm can keep text"):
        LakeSettings(warm_keeps="text,vector")
