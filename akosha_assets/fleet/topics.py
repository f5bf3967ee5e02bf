"""The topics of the simulated fleet: problems with their symptoms, cause, fix, decision and judged queries.

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
    """One problem that many systems have. Phrases are clauses: lower case, no full stop.

    `symptoms` are several wordings of the problem, `queries` paraphrase it in words that memories do not use,
    `error` is the log message, `where` the file and `identifier` the name that the fix changes.
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
        """The clauses; every memory of this topic contains at least one of them verbatim."""
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
    loaded = []
    for entry in (files("akosha_assets.fleet") / "catalogue").iterdir():
        if entry.name.endswith(".toml"):
            for topic_id, fields in tomllib.loads(entry.read_text("utf-8")).items():
                values: dict[str, Any] = {
                    name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
                }
                loaded.append(Topic(id=topic_id, area=entry.name.removesuffix(".toml"), **values))
    return tuple(sorted(loaded, key=lambda topic: topic.id))


def topic_of(text: str) -> str | None:
    """The id of the topic of a simulated memory with this text; None for any other text."""
    pattern, topic_by_phrase = _phrase_pattern()
    match = pattern.search(text.casefold())
    return topic_by_phrase[match[0]] if match else None


def judged_queries(seed: int = 0, *, paraphrases_only: bool = False) -> list[JudgedQuery]:
    """The judged set of `akosha bench relevance`: searches with their relevant topics, shuffled with `seed`.

    Per topic its paraphrases and, without `paraphrases_only`, one of its symptoms, its error text and its identifier.
    """
    rng = Random(f"judged/{seed}")
    queries: list[JudgedQuery] = []
    for topic in topics():
        queries += [JudgedQuery(text, (topic.id,), "paraphrase") for text in topic.queries]
        if not paraphrases_only:
            queries.append(JudgedQuery(rng.choice(topic.symptoms), (topic.id,), "symptom"))
            queries.append(JudgedQuery(topic.error, (topic.id,), "error"))
            same_identifier = tuple(other.id for other in topics() if other.identifier == topic.identifier)
            queries.append(JudgedQuery(f"{topic.identifier} {topic.where}", same_identifier, "identifier"))
    rng.shuffle(queries)
    return queries


@cache
def _phrase_pattern() -> tuple[re.Pattern[str], dict[str, str]]:
    topic_by_phrase = {}
    for topic in topics():
        for phrase in topic.phrases():
            topic_by_phrase[phrase.casefold()] = topic.id
            topic_by_phrase[redacted(phrase).casefold()] = topic.id
    longest_first = sorted(topic_by_phrase, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))), topic_by_phrase


def redacted(text: str) -> str:
    """`text` as Session-Buddy stores it in conversations: runs of three or more digits are masked."""
    return re.sub(r"\d{3,}", "[REDACTED]", text)
