"""What each simulated machine lives through: its projects, zone, incidents, and the full snapshots it would upload.

Everything follows from the plan, its `now` included: the same plan gives the same rows. Wording is in `memories.py`,
the form of rows in `rows.py`; nothing here touches a file.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random
from zoneinfo import ZoneInfo

import numpy as np

from akosha_assets.fleet import rows
from akosha_assets.fleet.memories import PEOPLE, PROJECTS, Wording, incident, updated
from akosha_assets.fleet.rows import Row
from akosha_assets.fleet.topics import Topic, topics
from akosha_assets.lake.ingestion.source.fingerprints import Fingerprints

KINDS = ("laptop", "devbox", "ci-runner", "workstation")
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/Los_Angeles",
    "America/New_York",
    "Asia/Kolkata",
    "Asia/Tokyo",
    "Europe/London",
)
SOURCES = ("claude_code", None, "manual", "claude_code", "crackerjack", "mahavishnu_workflow")
MEMORY_TABLES = ("conversations_v2", "reflections_v2", "conversations", "reflections")
SNAPSHOT_SECONDS = 61
CHANGED_SHARE = 0.01
VECTOR_SIZE = 384


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """How large the fleet is and what it uploads. `memories` counts the rows of the four memory tables in the last
    snapshot.

    Events fall on the `days` days up to the day of `now`. With `distinct` above zero only that many systems are
    simulated; the others upload the same bytes under their own names, which is fit for load, not for relevance.
    `vectors` fills the embeddings with made-up unit vectors, alike within a topic. Without `fingerprints` that column
    stays NULL, which saves a good part of the time.
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
            raise ValueError(f"now is {self.now.isoformat()}, without a zone; expected a time with one")

    def uploaded_at(self, index: int, snapshot: int) -> datetime:
        """When system `index` uploads `snapshot`: the last ones within half a minute before `now`, the others a minute
        apart.
        """
        return self.now.astimezone(UTC) - timedelta(
            seconds=index % 30 + SNAPSHOT_SECONDS * (self.snapshots - 1 - snapshot)
        )


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """All rows of one system at one time, by table of both databases, and some of its texts to search for."""

    at: datetime
    tables: dict[str, list[Row]]
    samples: tuple[str, ...]


def system_id(index: int) -> str:
    """Name of the system with this number."""
    return f"{KINDS[index % len(KINDS)]}-{PEOPLE[index % len(PEOPLE)]}-{index:05d}"


def history(plan: FleetPlan, index: int) -> list[FleetSnapshot]:
    """Every snapshot of system `index`, oldest first; each is full and holds all rows of the one before, about 1 % of
    the reflections changed.
    """
    machine = _Machine.of(plan, index)
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
        tables = {name: list(found) for name, found in machine.tables.items()}
        texts = [row["content"] for name in MEMORY_TABLES[:2] for row in tables.get(name, [])[-2:]]
        snapshots.append(FleetSnapshot(at, tables, tuple(texts)))
    return snapshots


@cache
def _fingerprints() -> Fingerprints:
    """One per process, for it learns: a text's cost falls as its fragments become known."""
    return Fingerprints()


@dataclass
class _Machine:
    plan: FleetPlan
    rng: Random
    zone: ZoneInfo
    user: str
    projects: list[str]
    topics: list[Topic]
    numbers: np.random.Generator
    fingerprints: Fingerprints | None
    tables: dict[str, list[Row]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    entities: dict[str, str] = field(default_factory=dict)
    met: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, plan: FleetPlan, index: int) -> "_Machine":
        rng = Random(f"{plan.seed}/{index}")
        return cls(
            plan,
            rng,
            ZoneInfo(ZONES[index % len(ZONES)]),
            PEOPLE[index % len(PEOPLE)],
            rng.sample(PROJECTS, 3),
            rng.sample(topics(), min(16, len(topics()))),
            np.random.default_rng([plan.seed, index]),
            _fingerprints() if plan.fingerprints else None,
        )

    def add(self, table: str, row: Row) -> Row:
        self.tables.setdefault(table, []).append(row)
        return row

    def set_up(self, at: datetime) -> None:
        """Code graphs, the user model and the projects in the knowledge graph are there from the first snapshot on."""
        indexed = at - timedelta(minutes=self.rng.randint(1, 50))
        for project in self.projects[:2]:
            module = project.replace("-", "_")
            calls = [(topic.identifier, f"{module}/{topic.where}") for topic in self.rng.sample(self.topics, 4)]
            commit = f"{self.rng.getrandbits(28):07x}"
            self.add(
                "code_graphs",
                rows.code_graph(f"/repos/{project}", at=indexed, zone=self.zone, commit=commit, functions=calls),
            )
        self.add(
            "user_models",
            {
                "peer_id": self.user,
                "project_id": self.projects[0],
                "representation_text": (
                    f"Peer {self.user} works in {', '.join(self.projects)}. Recent categories: context, facts."
                ),
                "last_updated": rows.local(indexed, self.zone),
                "evidence_count": 1,
                "model": "heuristic",
            },
        )

    def live(self, start: datetime, end: datetime, *, memories: int) -> None:
        """`memories` more memories between `start` and `end`."""
        left = memories
        while left:
            topic, project = self.rng.choice(self.topics), self.rng.choice(self.projects)
            at = start + (end - start) * self.rng.random()
            session = f"sess-{self.rng.getrandbits(24):06x}"
            previous = None
            for wording in incident(topic, project, self.rng):
                row = self._remember(topic, project, wording, at=at, session=session, previous=previous)
                previous = row["id"] if wording.role in ("problem", "fix", "check") else previous
                # Later turns follow within minutes, but never after the upload.
                at += min(timedelta(seconds=self.rng.uniform(40, 600)), (end - at) / 2)
                left -= 1
                if not left:
                    break
            self._learn(topic, project, at=at)

    def change_some(self, at: datetime) -> None:
        """About one reflection in a hundred is amended."""
        found = self.tables.get("reflections_v2", [])
        count = int(len(found) * CHANGED_SHARE + self.rng.random())
        for position in self.rng.sample(range(len(found)), min(count, len(found))):
            row = found[position]
            content = updated(row["content"], self.rng)
            moved = {
                "content": content,
                "importance_score": 0.9,
                "updated_at": rows.local(at, self.zone),
                "access_count": 1,
            }
            found[position] = self._fingerprinted(row | moved)

    def _remember(
        self, topic: Topic, project: str, wording: Wording, *, at: datetime, session: str, previous: str | None
    ) -> Row:
        text, tags = wording.text, list(wording.tags)
        match wording.role:
            case "problem" | "fix" | "check":
                source = self.rng.choice(SOURCES)
                given = {"source_type": source, "turn_parent_id": previous, "session": session}
                row = rows.conversation(text, at=at, zone=self.zone, project=project, **given)
                row["category"] = {"problem": "claude_turn", "fix": "skills", "check": "context"}[wording.role]
                if row["id"] in self.seen:
                    row["id"] = rows.ulid(at, self.rng)
                self.seen.add(row["id"])
                if source:
                    self.add(
                        "memory_provenance",
                        rows.provenance(row["id"], source=source, session=session, at=at, zone=self.zone, rng=self.rng),
                    )
                if previous:
                    kind, evidence = ("led_to", 0.9) if wording.role == "fix" else ("elaborated", 0.7)
                    self.add(
                        "causal_links",
                        rows.causal_link(
                            previous, row["id"], kind=kind, evidence=evidence, at=at, zone=self.zone, rng=self.rng
                        ),
                    )
                table = "conversations_v2"
            case "fact":
                row = rows.fact(text, at=at, zone=self.zone, project=project, session=session, user=self.user)
                if row["id"] in self.seen:
                    row["id"] = rows.hex_id(row["id"], str(len(self.seen)))
                self.seen.add(row["id"])
                self._extract(row["id"], topic, at=at)
                table = "conversations_v2"
            case "lesson" | "decision":
                row = rows.reflection(text, at=at, zone=self.zone, project=project, rng=self.rng, tags=tags)
                if previous:
                    self.add(
                        "causal_links",
                        rows.causal_link(
                            previous,
                            row["id"],
                            kind="related_to",
                            evidence=0.95,
                            at=at,
                            zone=self.zone,
                            rng=self.rng,
                            observed=False,
                        ),
                    )
                table = "reflections_v2"
            case "insight":
                row, table = (
                    rows.insight(text, at=at, zone=self.zone, rng=self.rng, conversation=previous),
                    "reflections_v2",
                )
            case "checkpoint":
                row, table = (
                    rows.checkpoint(text, at=at, zone=self.zone, project=project, quality=self.rng.randint(60, 98)),
                    "conversations",
                )
            case "note":
                row, table = rows.note(text, at=at, zone=self.zone, project=project, tags=tags), "reflections"
        if self.plan.vectors and table.endswith("_v2"):
            row["embedding"] = self._vector(topic)
        if wording.role not in ("fact", "insight", "checkpoint", "note"):
            row = self._fingerprinted(row)
        return self.add(table, row)

    def _fingerprinted(self, row: Row) -> Row:
        return row | {"fingerprint": self.fingerprints.of(row["content"])} if self.fingerprints else row

    def _extract(self, memory: str, topic: Topic, *, at: datetime) -> None:
        now = rows.local(at, self.zone)
        found = (("person", self.user.capitalize(), 1.0), ("technology", topic.technologies[0], 0.8))
        ids = []
        for kind, value, confidence in found:
            ids.append(rows.hex_id(memory, kind, value))
            made = {
                "id": ids[-1],
                "memory_id": memory,
                "entity_type": kind,
                "entity_value": value,
                "confidence": confidence,
            }
            self.add("memory_entities", made | {"timestamp": now})
        link = {
            "id": rows.hex_id(*ids),
            "from_entity_id": ids[0],
            "to_entity_id": ids[1],
            "relationship_type": "uses",
            "strength": 1.0,
        }
        self.add("memory_relationships", link | {"timestamp": now})

    def _learn(self, topic: Topic, project: str, *, at: datetime) -> None:
        """The knowledge graph knows the project, its technology and the problem; now and then someone searched."""
        owner = self._entity(project, "project", [f"{project} had trouble with {topic.technologies[0]}"], at)
        problem = self._entity(topic.id, "concept", [topic.cause, topic.fix], at)
        tool = self._entity(topic.technologies[0], "technology", [f"{topic.technologies[0]} is used in {project}"], at)
        for start, end, kind in ((owner, tool, "depends_on"), (owner, problem, "met"), (problem, tool, "concerns")):
            if f"{start}{kind}{end}" not in self.seen:
                self.seen.add(f"{start}{kind}{end}")
                self.add(
                    "kg_relationships", rows.kg_relationship(start, end, kind=kind, at=at, zone=self.zone, rng=self.rng)
                )
        if self.rng.random() < 0.3:
            search = {
                "id": rows.ulid(at, self.rng),
                "access_type": "search",
                "query_text": self.rng.choice(topic.queries),
            }
            self.add("memory_access_log", search | {"timestamp": rows.local(at, self.zone)})

    def _entity(self, name: str, kind: str, observations: list[str], at: datetime) -> str:
        if name not in self.entities:
            row = self.add(
                "kg_entities",
                rows.kg_entity(name, kind=kind, observations=observations, at=at, zone=self.zone, rng=self.rng),
            )
            self.entities[name] = row["id"]
        return self.entities[name]

    def _vector(self, topic: Topic) -> np.ndarray:
        centre = np.random.default_rng(sum(topic.id.encode())).standard_normal(VECTOR_SIZE)
        drawn = centre + self.numbers.standard_normal(VECTOR_SIZE)
        return (drawn / np.linalg.norm(drawn)).astype(np.float32)
