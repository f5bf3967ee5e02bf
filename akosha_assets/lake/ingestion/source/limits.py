"""The limits of one extraction, as the settings pass them to a worker process."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The most that one upload may cost; `vectors`: whether uploaded vectors are read."""

    max_raw_bytes: int
    max_rows: int
    max_columns: int
    max_field_bytes: int
    seconds: int
    memory_bytes: int
    vectors: bool
