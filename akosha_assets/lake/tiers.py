"""The tiers: where a row is stored, by the age of its event."""

from enum import StrEnum


class Tier(StrEnum):
    """A tier, named as in table addresses and JSON; hottest first.

    Readers open and refresh the tables in this order: a row that moves is in the colder tier before it leaves the
    hotter one.
    """

    HOT = "hot"
    WARM = "warm"
    COLD = "cold"


# Plain strings, as they become keys of JSON objects: orjson refuses keys of a subclass of str.
TIERS: tuple[str, ...] = tuple(tier.value for tier in Tier)
