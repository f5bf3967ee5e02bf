"""Simulates another tier policy: rows, bytes, memory and cost per tier, from the statistics of the real tables."""

import io
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from akosha_assets.lake import days
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.lifecycle import cold, warm
from akosha_assets.lake.lifecycle.placement import address, days_in
from akosha_assets.lake.lifecycle.policy import EXPIRED, TierPolicy
from akosha_assets.lake.tiers import TIERS, Tier

GIB = 1024**3
SAMPLE_ROWS = 2_000
# Memory of the service for one row of each tier, without its text: one and a half times the float16 vector in hot, the
# mapped index entry in warm, nothing in cold.
VECTOR_MEMORY_BYTES: dict[str, float] = {Tier.HOT: 1.5 * 768, Tier.WARM: 104, Tier.COLD: 0}


@dataclass(frozen=True)
class Prices:
    """Prices per GiB and month, in any currency."""

    storage: float
    memory: float


@dataclass(frozen=True, kw_only=True)
class TierCost:
    """The size and monthly cost of one tier. `bytes_per_row_from`: the table, or a sample in the tier's form."""

    tier: str
    days: int
    rows: int
    stored_bytes: int
    memory_bytes: int
    cost_per_month: float
    bytes_per_row: float
    bytes_per_row_from: str


@dataclass(frozen=True)
class Simulation:
    """The tiers now, and the tiers after every day was aged under another policy."""

    now: list[TierCost]
    then: list[TierCost]
    policy_version: str
    rows_to_move: int
    rows_past_retention: int


def simulate(lake: Lake, policy: TierPolicy, *, today: date, moved_at: datetime, prices: Prices) -> Simulation:
    """Applies `policy` to the rows that are stored now. A day in two tiers counts in both until it is aged."""
    stored_days = days_in(lake)
    measured, source, text = _bytes_per_row(lake, stored_days, policy, moved_at)
    now_days = {tier: {day: stored.rows for day, stored in by_day.items()} for tier, by_day in stored_days.items()}
    then_days: dict[str, dict[date, int]] = {tier: {} for tier in TIERS}
    moving = expired = 0
    for tier, by_day in stored_days.items():
        for day, stored in by_day.items():
            target = policy.tier_of(day, today)
            expired += stored.rows if target == EXPIRED else 0
            # Rows never move back: a colder form does not have the data of a hotter one.
            target = TIERS[max(TIERS.index(Tier.COLD if target == EXPIRED else target), TIERS.index(tier))]
            moving += stored.rows if target != tier else 0
            then_days[target][day] = then_days[target].get(day, 0) + stored.rows

    def costs(rows_by_day: dict[str, dict[date, int]], stored: dict[str, int] | None) -> list[TierCost]:
        by_tier = []
        for tier in TIERS:
            rows = sum(rows_by_day[tier].values())
            size = stored[tier] if stored else round(rows * measured[tier])
            memory = round(rows * (VECTOR_MEMORY_BYTES[tier] + (text if tier == Tier.HOT else 0)))
            cost = size / GIB * prices.storage + memory / GIB * prices.memory
            by_tier.append(
                TierCost(
                    tier=tier,
                    days=len(rows_by_day[tier]),
                    rows=rows,
                    stored_bytes=size,
                    memory_bytes=memory,
                    cost_per_month=round(cost, 4),
                    bytes_per_row=round(measured[tier], 1),
                    bytes_per_row_from=source[tier],
                )
            )
        return by_tier

    stored_now = {tier: sum(each.stored_bytes for each in by_day.values()) for tier, by_day in stored_days.items()}
    return Simulation(costs(now_days, stored_now), costs(then_days, None), policy.version, moving, expired)


def _bytes_per_row(
    lake: Lake, stored_days: dict[str, dict[date, days.Stored]], policy: TierPolicy, moved_at: datetime
) -> tuple[dict[str, float], dict[str, str], float]:
    """Stored bytes of a row by tier, the source of each figure, and the mean bytes of a whole text."""
    sample = _sample(lake, stored_days)
    converted: dict[str, pa.Table] = {}
    text = 0.0
    if sample is not None:
        move = warm.Move(policy, moved_at, "simulation")
        text = float(pc.mean(pc.binary_length(sample["text"])).as_py() or 0)
        converted = {
            Tier.HOT: pa.table(sample),
            Tier.WARM: pa.table(warm.form(sample, move)),
            Tier.COLD: pa.table(cold.form(sample, move)),
        }
    sizes: dict[str, float] = {}
    sources: dict[str, str] = {}
    for tier in TIERS:
        rows = sum(each.rows for each in stored_days[tier].values())
        if rows:
            sizes[tier], sources[tier] = sum(each.stored_bytes for each in stored_days[tier].values()) / rows, "table"
        elif tier in converted:
            sizes[tier], sources[tier] = _parquet_bytes(converted[tier]) / len(converted[tier]), "sample of hot rows"
        else:
            sizes[tier], sources[tier] = 0.0, "nothing to measure"
    return sizes, sources, text


def _sample(lake: Lake, stored_days: dict[str, dict[date, days.Stored]]) -> pa.RecordBatch | None:
    """Rows of the largest hot day; None if hot is empty."""
    table = lake.open(address(Tier.HOT))
    if table is None or not stored_days[Tier.HOT]:
        return None
    fullest = max(stored_days[Tier.HOT], key=lambda day: stored_days[Tier.HOT][day].rows)
    spec = lake.spec(address(Tier.HOT))
    parts, rows = [], 0
    for batch in days.stream(table, spec, spec.schema.names, days.predicate(fullest)):
        parts.append(batch.slice(0, SAMPLE_ROWS - rows))
        rows += parts[-1].num_rows
        if rows >= SAMPLE_ROWS:
            break
    return pa.concat_batches(parts) if parts else None


def _parquet_bytes(rows: pa.Table) -> int:
    buffer = io.BytesIO()
    pq.write_table(rows, buffer, compression="zstd", compression_level=6)
    return buffer.tell()
