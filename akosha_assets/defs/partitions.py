"""The two ways days are counted: when an upload reached us, and when what it tells of happened. Both in UTC."""

import dagster as dg

ARRIVAL_DAYS = dg.DailyPartitionsDefinition(start_date="2026-01-01", end_offset=1)
EVENT_DAYS = dg.DailyPartitionsDefinition(start_date="2023-01-01", end_offset=1)


def is_event_day(day: str) -> bool:
    """Whether the UI counts `day`. A row of any day is stored; Dagster passes over keys outside its partitions."""
    return EVENT_DAYS.has_partition_key(day)
