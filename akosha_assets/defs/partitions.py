"""Daily partitions in UTC: by the arrival of an upload, and by the time of the event that a memory is about."""

import dagster as dg

ARRIVAL_DAYS = dg.DailyPartitionsDefinition(start_date="2026-01-01", end_offset=1)
EVENT_DAYS = dg.DailyPartitionsDefinition(start_date="2023-01-01", end_offset=1)


def is_event_day(day: str) -> bool:
    """Whether `day` is a partition. Rows of any day are stored; Dagster ignores keys outside its partitions."""
    return EVENT_DAYS.has_partition_key(day)
