"""The plan of a simulated fleet, and the full snapshots that each of its systems would upload.

Everything follows from the plan, its `now` included: the same plan gives the same rows. What a system writes is in
`machine.py`; nothing here touches a file.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from akosha_assets.fleet.machine import Machine
from akosha_assets.fleet.memories import PEOPLE
from akosha_assets.fleet.rows import Row

KINDS = ("laptop", "devbox", "ci-runner", "workstation")
MEMORY_TABLES = ("conversations_v2", "reflections_v2", "conversations", "reflections")
SNAPSHOT_SECONDS = 61


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """How large the fleet is and what it uploads.

    `memories` counts the rows of the four memory tables in the last snapshot. Events fall on the `days` days up to the
    day of `now`. With `distinct` above zero only that many systems are simulated; the others upload the same bytes
    under their own names, which is good for load tests and useless for relevance. `vectors` fills the embeddings with
    random unit vectors, similar within a topic. Without `fingerprints` that column stays NULL, which is faster.
    """

    systems: int
    memories: int
    now: datetime
    days: int = 7
    snapshots: int = 1
    seed: int = 0
    distinct: int = 0
    vectors: bool = False
    fingerprints: bool = True

    def __post_init__(self) -> None:
        for name in ("systems", "memories", "days", "snapshots"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.distinct < 0:
            raise ValueError(f"distinct is {self.distinct}; expected 0 (all systems differ) or more")
        if self.now.tzinfo is None:
            raise ValueError(f"now is {self.now.isoformat()}, without a zone; expected a time with a zone")

    def uploaded_at(self, index: int, snapshot: int) -> datetime:
        """When system `index` uploads `snapshot`: the last one within 30 s before `now`, the others 61 s apart."""
        return self.now.astimezone(UTC) - timedelta(
            seconds=index % 30 + SNAPSHOT_SECONDS * (self.snapshots - 1 - snapshot)
        )


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """All rows of one system at one time, by table of both databases, and some of its texts as search queries."""

    at: datetime
    tables: dict[str, list[Row]]
    samples: tuple[str, ...]


def system_id(index: int) -> str:
    """The name of system number `index`."""
    return f"{KINDS[index % len(KINDS)]}-{PEOPLE[index % len(PEOPLE)]}-{index:05d}"


def history(plan: FleetPlan, index: int) -> list[FleetSnapshot]:
    """Every snapshot of system `index`, oldest first.

    Each is full: it holds all rows of the one before, with about 1 % of the reflections changed.
    """
    machine = Machine.create(plan.seed, index, vectors=plan.vectors, fingerprints=plan.fingerprints)
    grown = max(1, plan.memories // 20)
    sizes = [grown] * plan.snapshots
    sizes[0] = max(1, plan.memories - grown * (plan.snapshots - 1))
    midnight = plan.now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    snapshots: list[FleetSnapshot] = []
    for number, size in enumerate(sizes):
        at = plan.uploaded_at(index, number)
        if number == 0:
            start = min(midnight - timedelta(days=plan.days - 1), at - timedelta(hours=1))
            machine.set_up(at)
        else:
            start = snapshots[-1].at
            machine.change_some(at)
        machine.live(start, at, memories=size)
        tables = {name: list(written) for name, written in machine.tables.items()}
        texts = [row["content"] for name in MEMORY_TABLES[:2] for row in tables.get(name, [])[-2:]]
        snapshots.append(FleetSnapshot(at, tables, tuple(texts)))
    return snapshots
