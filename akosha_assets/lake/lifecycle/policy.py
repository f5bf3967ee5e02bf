"""The tier policy: dates in, tier out. No I/O and no clock; `today` is a parameter.

The numbers are settings. The version of a policy is a hash of them, so a changed policy always has a new version.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import date
from functools import cached_property

from akosha_assets.lake.lifecycle.quantization import INT8_METHOD, SKETCH_METHOD
from akosha_assets.lake.lifecycle.summaries import METHOD
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.tiers import Tier

# Past the cold window; the rows are in cold until retention deletes them.
EXPIRED = "expired"


@dataclass(frozen=True)
class TierPolicy:
    """Windows in days of event age, the columns that warm keeps, and the recall that each tier must reach."""

    hot_days: int
    warm_days: int
    cold_years: int
    warm_keeps: tuple[str, ...]
    warm_recall: float
    cold_recall: float
    recall_probes: int
    warm_sentences: int = 3
    cold_sentences: int = 1
    summary_method: str = METHOD
    vector_method: str = INT8_METHOD
    sketch_method: str = SKETCH_METHOD

    @classmethod
    def of(cls, settings: LakeSettings) -> "TierPolicy":
        """The policy of the settings."""
        return cls(
            hot_days=settings.hot_days,
            warm_days=settings.warm_days,
            cold_years=settings.cold_years,
            warm_keeps=tuple(sorted({name.strip() for name in settings.warm_keeps.split(",") if name.strip()})),
            warm_recall=settings.warm_recall,
            cold_recall=settings.cold_recall,
            recall_probes=settings.recall_probes,
        )

    @cached_property
    def json(self) -> str:
        """The policy as one line of JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True)

    @cached_property
    def version(self) -> str:
        """Eight hex digits that identify the policy."""
        return hashlib.sha256(self.json.encode()).hexdigest()[:8]

    def tier_of(self, event_day: date, today: date) -> str:
        """The tier that rows of `event_day` belong in on `today`."""
        if event_day > self.last_day_of(Tier.WARM, today):
            return Tier.HOT if event_day > self.last_day_of(Tier.HOT, today) else Tier.WARM
        return Tier.COLD if event_day >= self.first_kept_day(today) else EXPIRED

    def last_day_of(self, tier: str, today: date) -> date:
        """The newest event day that no longer belongs in `tier`, which is hot or warm."""
        return _add_days(today, -(self.hot_days if tier == Tier.HOT else self.warm_days))

    def first_kept_day(self, today: date) -> date:
        """The oldest event day that retention keeps."""
        return years_before(today, self.cold_years)

    def moves_on(self, event_day: date, tier: str) -> date:
        """The day on which rows of `event_day` leave `tier`; for cold, the last day on which retention keeps them."""
        if tier == Tier.HOT:
            return _add_days(event_day, self.hot_days)
        if tier == Tier.WARM:
            return _add_days(event_day, self.warm_days)
        return years_before(event_day, -self.cold_years)

    def required_recall(self, tier: str) -> float:
        """The recall@10 that a day must reach in `tier`, which is warm or cold."""
        return self.warm_recall if tier == Tier.WARM else self.cold_recall


def _add_days(day: date, count: int) -> date:
    """The date `count` days later, or earlier if it is negative, limited to the calendar of Python."""
    return date.fromordinal(min(max(day.toordinal() + count, 1), date.max.toordinal()))


def years_before(day: date, years: int) -> date:
    """The same date `years` earlier, limited to the calendar of Python; the 29th of February becomes the 28th."""
    year = day.year - years
    if not date.min.year <= year <= date.max.year:
        return date.min if year < date.min.year else date.max
    try:
        return day.replace(year=year)
    except ValueError:
        return day.replace(year=year, day=28)
