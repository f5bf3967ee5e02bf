"""What another tier policy would cost: rows, bytes, memory and money per tier, from the real tables' statistics."""

import io
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from akosha_assets.lake import days
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.lifecycle import cold, warm
from akosha_assets.lake.lifecycle.placement import TIERS, address, days_in
from akosha_assets.lake.lifecycle.policy import COLD, EXPIRED, HOT, WARM, TierPolicy

GIB = 1024**3
SAMPLE_ROWS = 2_000
# What serving keeps in memory for a memory of each tier, beside its text: one and a half times the float16 vector in
# hot, the index entry in warm, mapped, nothing in cold.
VECTOR_MEMORY_BYTES = {HOT: 1.5 * 768, WARM: 104, COLD: 0}


@dataclass(frozen=True)
class Prices:
    """Per GiB and month, in whatever currency they are given in."""

    storage: float
    memory: float


@dataclass(frozen=True)
class TierCost:
    """What one tier holds and costs a month. `bytes_per_row_from`: the table itself, or a sample put into the tier's
    form.
    """

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
    """The tiers as they are, and as they would be when every day had been aged under another policy."""

    now: list[TierCost]
    then: list[TierCost]
    policy_version: str
    rows_to_move: int
    rows_past_retention: int


def simulate(lake: Lake, policy: TierPolicy, *, today: date, moved_at: datetime, prices: Prices) -> Simulation:
    """What `policy` would make of the rows that are stored now. A day that lies in two tiers counts in both until it is
    aged.
    """
    lying = days_in(lake)
    measured, source, text = _bytes_per_row(lake, lying, policy, moved_at)
    now_days = {tier: {day: stored.rows for day, stored in found.items()} for tier, found in lying.items()}
    then_days: dict[str, dict[date, int]] = {tier: {} for tier in TIERS}
    moving = expired = 0
    for tier, found in lying.items():
        for day, stored in found.items():
            target = policy.tier_of(day, today)
            expired += stored.rows if target == EXPIRED else 0
            # Nothing moves back: what cold has forgotten cannot be made warm.
            target = TIERS[max(TIERS.index(COLD if target == EXPIRED else target), TIERS.index(tier))]
            moving += stored.rows if target != tier else 0
            then_days[target][day] = then_days[target].get(day, 0) + stored.rows

    def costs(rows_by_day: dict[str, dict[date, int]], stored: dict[str, int] | None) -> list[TierCost]:
        found = []
        for tier in TIERS:
            rows = sum(rows_by_day[tier].values())
            size = stored[tier] if stored else round(rows * measured[tier])
            memory = round(rows * (VECTOR_MEMORY_BYTES[tier] + (text if tier == HOT else 0)))
            money = size / GIB * prices.storage + memory / GIB * prices.memory
            found.append(
                TierCost(
                    tier,
                    len(rows_by_day[tier]),
                    rows,
                    size,
                    memory,
                    round(money, 4),
                    round(measured[tier], 1),
                    source[tier],
                )
            )
        return found

    stored_now = {tier: sum(each.stored_bytes for each in found.values()) for tier, found in lying.items()}
    return Simulation(costs(now_days, stored_now), costs(then_days, None), policy.version, moving, expired)


def _bytes_per_row(
    lake: Lake, lying: dict[str, dict[date, days.Stored]], policy: TierPolicy, moved_at: datetime
) -> tuple[dict[str, float], dict[str, str], float]:
    """Stored bytes of a row by tier, where each figure comes from, and the mean bytes of a whole text."""
    sample = _sample(lake, lying)
    formed: dict[str, pa.Table] = {}
    text = 0.0
    if sample is not None:
        move = warm.Move(policy, moved_at, "simulation")
        text = float(pc.mean(pc.binary_length(sample["text"])).as_py() or 0)
        formed = {
            HOT: pa.table(sample),
            WARM: pa.table(warm.form(sample, move)),
            COLD: pa.table(cold.form(sample, move)),
        }
    sizes, sources = {}, {}
    for tier in TIERS:
        rows = sum(each.rows for each in lying[tier].values())
        if rows:
            sizes[tier], sources[tier] = sum(each.stored_bytes for each in lying[tier].values()) / rows, "table"
        elif tier in formed:
            sizes[tier], sources[tier] = _parquet_bytes(formed[tier]) / len(formed[tier]), "sample of hot rows"
        else:
            sizes[tier], sources[tier] = 0.0, "nothing to measure"
    return sizes, sources, text


def _sample(lake: Lake, lying: dict[str, dict[date, days.Stored]]) -> pa.RecordBatch | None:
    table = lake.open(address(HOT))
    if table is None or not lying[HOT]:
        return None
    fullest = max(lying[HOT], key=lambda day: lying[HOT][day].rows)
    spec = lake.spec(address(HOT))
    parts, rows = [], 0
    for batch in days.stream(table, spec, spec.schema.names, days.predicate(fullest)):
        parts.append(batch.slice(0, SAMPLE_ROWS - rows))
        rows += parts[-1].num_rows
        if rows >= SAMPLE_ROWS:
            break
    return pa.concat_batches(parts) if parts else None


def _parquet_bytes(rows: pa.Table) -> int:
    held = io.BytesIO()
    pq.write_table(rows, held, compression="zstd", compression_level=6)
    return held.tell()
