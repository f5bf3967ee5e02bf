"""The names of the tiers, by the age of an event."""

from typing import Final

HOT: Final = "hot"
WARM: Final = "warm"
COLD: Final = "cold"
# Hottest first. Readers open and refresh the tables in this order: a row that moves is in the colder tier before it
# leaves the hotter one.
TIERS: tuple[str, ...] = (HOT, WARM, COLD)
