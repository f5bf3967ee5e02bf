"""What the simulated fleet knows: problem topics with their symptoms, cause, fix, decision and judged queries.

Reads the hand-written catalogue in `catalogue/*.toml`. Wording of whole memories is in `memories.py`.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any, Literal

QueryStyle = Literal["paraphrase", "symptom", "error", "identifier"]


@dataclass(frozen=True, slots=True)
class Topic:
    """One problem that many systems meet. Phrases are clauses: lower case, no full stop.

    `symptoms` are several wordings of the same trouble, `queries` paraphrase it in words that memories do not use,
    `error` is what the log says, `where` the file and `identifier` the name that the fix touches.
    """

    id: str
    area: str
    technologies: tuple[str, ...]
    symptoms: tuple[str, ...]
    error: str
    where: str
    identifier: str
    cause: str
    fix: str
    decision: str
    queries: tuple[str, ...]

    def phrases(self) -> tuple[str, ...]:
        """The clauses of which every memory of this topic holds at least one, word for word."""
        return (*self.symptoms, self.cause, self.fix, self.decision)


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """A search text and the topics whose memories answer it."""

    text: str
    topic_ids: tuple[str, ...]
    style: QueryStyle


@cache
def topics() -> tuple[Topic, ...]:
    """Every topic of the catalogue, ordered by id."""
    found = []
    for entry in (files("akosha_assets.fleet") / "catalogue").iterdir():
        if entry.name.endswith(".toml"):
            for topic_id, fields in tomllib.loads(entry.read_text("utf-8")).items():
                values: dict[str, Any] = {
                    name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
                }
                found.append(Topic(id=topic_id, area=entry.name.removesuffix(".toml"), **values))
    return tuple(sorted(found, key=lambda topic: topic.id))


def topic_of(text: str) -> str | None:
    """Id of the topic that a generated memory with this text is about; None for any other text."""
    pattern, owner = _recogniser()
    match = pattern.search(text.casefold())
    return owner[match[0]] if match else None


def judged_queries(seed: int = 0, *, paraphrases_only: bool = False) -> list[JudgedQuery]:
    """Searches with their relevant topics, in an order drawn from `seed`: the judged set of `akosha bench relevance`.

    Per topic its paraphrases and, unless told otherwise, one of its symptoms, its error text and its identifier.
    """
    rng = Random(f"judged/{seed}")
    found: list[JudgedQuery] = []
    for topic in topics():
        found += [JudgedQuery(text, (topic.id,), "paraphrase") for text in topic.queries]
        if not paraphrases_only:
            found.append(JudgedQuery(rng.choice(topic.symptoms), (topic.id,), "symptom"))
            found.append(JudgedQuery(topic.error, (topic.id,), "error"))
            named = tuple(other.id for other in topics() if other.identifier == topic.identifier)
            found.append(JudgedQuery(f"{topic.identifier} {topic.where}", named, "identifier"))
    rng.shuffle(found)
    return found


@cache
def _recogniser() -> tuple[re.Pattern[str], dict[str, str]]:
    owner = {}
    for topic in topics():
        for phrase in topic.phrases():
            owner[phrase.casefold()] = topic.id
            owner[redacted(phrase).casefold()] = topic.id
    longest_first = sorted(owner, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))), owner


def redacted(text: str) -> str:
    """`text` as Session-Buddy stores it in conversations: runs of three or more digits are masked."""
    return re.sub(r"\d{3,}", "[REDACTED]", text)
