"""The bounds one extraction works under, as they travel from the settings to a worker process."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one upload may cost at most; `vectors`: whether uploaded vectors are wanted."""

    max_raw_bytes: int
    max_rows: int
    max_columns: int
    max_field_bytes: int
    seconds: int
    memory_bytes: int
    vectors: bool
