"""One simulated machine: the rows that it writes while it works on its projects and meets incidents.

Everything follows from the plan and the machine's number. Wording is in `memories.py`, the form of rows in `rows.py`.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from random import Random
from zoneinfo import ZoneInfo

import numpy as np

from akosha_assets.fleet import rows
from akosha_assets.fleet.memories import PEOPLE, PROJECTS, Wording, incident, updated
from akosha_assets.fleet.rows import Row
from akosha_assets.fleet.topics import Topic, topics
from akosha_assets.lake.ingestion.source.fingerprints import Fingerprints

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
CATEGORIES = {"problem": "claude_turn", "fix": "skills", "check": "context"}
CHANGED_SHARE = 0.01
VECTOR_SIZE = 384


@cache
def _fingerprints() -> Fingerprints:
    """One per process: it caches fragments, so later texts cost less."""
    return Fingerprints()


@dataclass(kw_only=True)
class Machine:
    """One system of the fleet; `tables` holds every row that it has written, by table of both databases."""

    rng: Random
    zone: ZoneInfo
    user: str
    projects: list[str]
    topics: list[Topic]
    # Draws the vectors; None: embeddings stay NULL.
    vector_rng: np.random.Generator | None
    # None: fingerprints stay NULL.
    fingerprints: Fingerprints | None
    tables: dict[str, list[Row]] = field(default_factory=dict)
    # Ids of memories, and the ends and kind of graph relationships.
    used_ids: set[str] = field(default_factory=set)
    entity_ids: dict[str, str] = field(default_factory=dict)

    @classmethod
    def create(cls, seed: int, index: int, *, vectors: bool, fingerprints: bool) -> "Machine":
        """Machine number `index`, before its first memory."""
        rng = Random(f"{seed}/{index}")
        return cls(
            rng=rng,
            zone=ZoneInfo(ZONES[index % len(ZONES)]),
            user=PEOPLE[index % len(PEOPLE)],
            projects=rng.sample(PROJECTS, 3),
            topics=rng.sample(topics(), min(16, len(topics()))),
            vector_rng=np.random.default_rng([seed, index]) if vectors else None,
            fingerprints=_fingerprints() if fingerprints else None,
        )

    def add(self, table: str, row: Row) -> Row:
        """Write `row` to `table`; returns it."""
        self.tables.setdefault(table, []).append(row)
        return row

    def set_up(self, at: datetime) -> None:
        """Write the code graphs and the user model, which the first snapshot already holds."""
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
        """Write `memories` more memories, between `start` and `end`."""
        remaining = memories
        while remaining:
            topic, project = self.rng.choice(self.topics), self.rng.choice(self.projects)
            at = start + (end - start) * self.rng.random()
            session = f"sess-{self.rng.getrandbits(24):06x}"
            previous = None
            for wording in incident(topic, project, self.rng):
                row = self._remember(topic, project, wording, at=at, session=session, previous=previous)
                previous = row["id"] if wording.role in ("problem", "fix", "check") else previous
                # Later turns follow within minutes, but never after the upload.
                at += min(timedelta(seconds=self.rng.uniform(40, 600)), (end - at) / 2)
                remaining -= 1
                if not remaining:
                    break
            self._update_graph(topic, project, at=at)

    def change_some(self, at: datetime) -> None:
        """Amend about one reflection in a hundred."""
        reflections = self.tables.get("reflections_v2", [])
        count = int(len(reflections) * CHANGED_SHARE + self.rng.random())
        for position in self.rng.sample(range(len(reflections)), min(count, len(reflections))):
            row = reflections[position]
            content = updated(row["content"], self.rng)
            changes = {
                "content": content,
                "importance_score": 0.9,
                "updated_at": rows.local(at, self.zone),
                "access_count": 1,
            }
            reflections[position] = self._with_fingerprint(row | changes)

    def _remember(
        self, topic: Topic, project: str, wording: Wording, *, at: datetime, session: str, previous: str | None
    ) -> Row:
        """Write one memory of an incident; `previous` is the id of the last turn of the conversation."""
        match wording.role:
            case "problem" | "fix" | "check":
                table = "conversations_v2"
                row = self._turn(wording, project, at=at, session=session, previous=previous)
            case "fact":
                table = "conversations_v2"
                row = self._fact(wording.text, topic, project, at=at, session=session)
            case "lesson" | "decision":
                table = "reflections_v2"
                row = self._reflection(wording, project, at=at, previous=previous)
            case "insight":
                table = "reflections_v2"
                row = rows.insight(wording.text, at=at, zone=self.zone, rng=self.rng, conversation=previous)
            case "checkpoint":
                table = "conversations"
                quality = self.rng.randint(60, 98)
                row = rows.checkpoint(wording.text, at=at, zone=self.zone, project=project, quality=quality)
            case "note":
                table = "reflections"
                row = rows.note(wording.text, at=at, zone=self.zone, project=project, tags=list(wording.tags))
        if self.vector_rng is not None and table.endswith("_v2"):
            row["embedding"] = _unit_vector(topic, self.vector_rng)
        if wording.role not in ("fact", "insight", "checkpoint", "note"):
            row = self._with_fingerprint(row)
        return self.add(table, row)

    def _turn(self, wording: Wording, project: str, *, at: datetime, session: str, previous: str | None) -> Row:
        """A turn of a conversation, with its provenance and the link to the turn before."""
        source = self.rng.choice(SOURCES)
        row = rows.conversation(
            wording.text,
            at=at,
            zone=self.zone,
            project=project,
            session=session,
            source_type=source,
            turn_parent_id=previous,
        )
        row["category"] = CATEGORIES[wording.role]
        if row["id"] in self.used_ids:
            row["id"] = rows.ulid(at, self.rng)
        self.used_ids.add(row["id"])
        if source:
            provenance = rows.provenance(row["id"], source=source, session=session, at=at, zone=self.zone, rng=self.rng)
            self.add("memory_provenance", provenance)
        if previous:
            kind, evidence = ("led_to", 0.9) if wording.role == "fix" else ("elaborated", 0.7)
            self._link(previous, row["id"], kind=kind, evidence=evidence, at=at, observed=True)
        return row

    def _fact(self, text: str, topic: Topic, project: str, *, at: datetime, session: str) -> Row:
        """A fact that the language model extracted, with its entities."""
        row = rows.fact(text, at=at, zone=self.zone, project=project, session=session, user=self.user)
        if row["id"] in self.used_ids:
            row["id"] = rows.hex_id(row["id"], str(len(self.used_ids)))
        self.used_ids.add(row["id"])
        self._extract_entities(row["id"], topic, at=at)
        return row

    def _reflection(self, wording: Wording, project: str, *, at: datetime, previous: str | None) -> Row:
        """A lesson or a decision, with the link to the turn that it is about."""
        row = rows.reflection(
            wording.text, at=at, zone=self.zone, project=project, rng=self.rng, tags=list(wording.tags)
        )
        if previous:
            self._link(previous, row["id"], kind="related_to", evidence=0.95, at=at, observed=False)
        return row

    def _link(self, start: str, end: str, *, kind: str, evidence: float, at: datetime, observed: bool) -> None:
        link = rows.causal_link(
            start, end, kind=kind, evidence=evidence, at=at, zone=self.zone, rng=self.rng, observed=observed
        )
        self.add("causal_links", link)

    def _with_fingerprint(self, row: Row) -> Row:
        return row | {"fingerprint": self.fingerprints.of(row["content"])} if self.fingerprints else row

    def _extract_entities(self, memory: str, topic: Topic, *, at: datetime) -> None:
        """Write the entities of `memory`, a person and a technology, and the relationship between them."""
        now = rows.local(at, self.zone)
        ids = []
        for kind, value, confidence in (
            ("person", self.user.capitalize(), 1.0),
            ("technology", topic.technologies[0], 0.8),
        ):
            ids.append(rows.hex_id(memory, kind, value))
            entity = {
                "id": ids[-1],
                "memory_id": memory,
                "entity_type": kind,
                "entity_value": value,
                "confidence": confidence,
                "timestamp": now,
            }
            self.add("memory_entities", entity)
        relationship = {
            "id": rows.hex_id(*ids),
            "from_entity_id": ids[0],
            "to_entity_id": ids[1],
            "relationship_type": "uses",
            "strength": 1.0,
            "timestamp": now,
        }
        self.add("memory_relationships", relationship)

    def _update_graph(self, topic: Topic, project: str, *, at: datetime) -> None:
        """Write the project, its technology and the problem into the knowledge graph, and at times a search."""
        owner = self._entity(project, "project", [f"{project} had trouble with {topic.technologies[0]}"], at)
        problem = self._entity(topic.id, "concept", [topic.cause, topic.fix], at)
        tool = self._entity(topic.technologies[0], "technology", [f"{topic.technologies[0]} is used in {project}"], at)
        for start, end, kind in ((owner, tool, "depends_on"), (owner, problem, "met"), (problem, tool, "concerns")):
            if f"{start}{kind}{end}" not in self.used_ids:
                self.used_ids.add(f"{start}{kind}{end}")
                self.add(
                    "kg_relationships", rows.kg_relationship(start, end, kind=kind, at=at, zone=self.zone, rng=self.rng)
                )
        if self.rng.random() < 0.3:
            search = {
                "id": rows.ulid(at, self.rng),
                "access_type": "search",
                "query_text": self.rng.choice(topic.queries),
                "timestamp": rows.local(at, self.zone),
            }
            self.add("memory_access_log", search)

    def _entity(self, name: str, kind: str, observations: list[str], at: datetime) -> str:
        """The id of an entity of the knowledge graph, which is written when first needed."""
        if name not in self.entity_ids:
            row = self.add(
                "kg_entities",
                rows.kg_entity(name, kind=kind, observations=observations, at=at, zone=self.zone, rng=self.rng),
            )
            self.entity_ids[name] = row["id"]
        return self.entity_ids[name]


def _unit_vector(topic: Topic, rng: np.random.Generator) -> np.ndarray:
    """(VECTOR_SIZE,) float32 of length 1, near the other vectors of `topic`."""
    centre = np.random.default_rng(sum(topic.id.encode())).standard_normal(VECTOR_SIZE)
    vector = centre + rng.standard_normal(VECTOR_SIZE)
    return (vector / np.linalg.norm(vector)).astype(np.float32)
