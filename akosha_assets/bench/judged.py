"""Judged sets: memories, and questions with the memories that answer them. The simulated fleet's own, and folders."""

import json
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from zlib import crc32

from akosha_assets.fleet.systems import FleetPlan, history
from akosha_assets.fleet.topics import judged_queries, topic_of
from akosha_assets.lake.errors import InvalidRequest

# Questions that no memory of a software fleet answers.
FOREIGN = (
    "When is the next full moon?",
    "Who won the world cup in 2018?",
    "How long should I boil an egg?",
    "What is the capital of Mongolia?",
    "Which restaurant did we like in Lisbon?",
    "How do I renew my passport?",
    "best running shoes for flat feet",
    "recipe for sourdough bread",
    "What time does the museum open on Sundays?",
    "Where did my sister move last year?",
    "What breed is the neighbour's dog?",
    "symptoms of a vitamin D deficiency",
    "How many players are in a rugby team?",
    "What did the doctor say about my knee?",
    "lyrics of the national anthem",
    "How do I remove a wine stain from a carpet?",
    "What is the boiling point of ethanol?",
    "violin lessons for beginners",
    "How much does a kilogram of saffron cost?",
    "When do the swallows return in spring?",
    "What colour did they paint the bedroom?",
    "How is cheese made?",
    "Who directed the film about the lighthouse?",
    "When was the treaty of Westphalia signed?",
    "How do I change a bicycle tyre?",
    "what to pack for a hike in the Alps",
    "Did Tim finish the marathon?",
    "Which stocks pay the highest dividend?",
    "How do penguins stay warm?",
    "the plot of Hamlet",
    "garden plants that like shade",
    "How old is the universe?",
    "What was the score of the match yesterday?",
    "mortgage rates in Canada",
)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A question with its evidence by position of the memory: memories of equal evidence answer it equally."""

    text: str
    evidence: Mapping[int, Hashable]
    style: str
    # Questions of one group are in the same half.
    group: str

    @property
    def half(self) -> int:
        """0 or 1."""
        return crc32(self.group.encode()) % 2


@dataclass(frozen=True, kw_only=True)
class JudgedSet:
    """Memories with their sessions, questions that they answer, and questions that they do not, by kind."""

    name: str
    texts: list[str]
    sessions: list[str | None]
    questions: list[Judged]
    unanswered: dict[str, list[str]]


def simulated(*, systems: int, memories: int, queries: int) -> JudgedSet:
    """The judged queries of the simulated fleet; every memory of the right topic is evidence of its own."""
    plan = FleetPlan(systems=systems, memories=memories, now=datetime.now(UTC), fingerprints=False)
    texts = list(
        dict.fromkeys(
            row["content"]
            for system in range(systems)
            for table in ("conversations_v2", "reflections_v2")
            for row in history(plan, system)[0].tables.get(table, [])
        )
    )
    topics = [topic_of(text) for text in texts]
    judged = [
        Judged(text=query.text, evidence=evidence, style=query.style, group=query.topic_ids[0])
        for query in judged_queries()
        if (evidence := {at: at for at, topic in enumerate(topics) if topic in query.topic_ids})
    ]
    unanswered = {"foreign": list(FOREIGN)}
    return JudgedSet(
        name="fleet", texts=texts, sessions=[None] * len(texts), questions=judged[:queries], unanswered=unanswered
    )


def folder_sets(folder: Path) -> list[JudgedSet]:
    """Two sets of a folder with `sessions.json` and `questions.json`: judged by sessions and by single messages.

    Every message is a memory. By sessions, each message of a session with evidence is equal evidence. By messages, it
    is those that share the most words with the true answer. Questions without sessions have no answer.

    Raises:
        InvalidRequest: a file is missing or has another form.
    """
    try:
        sessions = json.loads((folder / "sessions.json").read_text("utf-8"))
        asked = json.loads((folder / "questions.json").read_text("utf-8"))
        messages = [(one["sessionId"], message["content"]) for one in sessions for message in one["messages"]]
        names, texts = [name for name, _ in messages], [text for _, text in messages]
        by_session, by_message, unanswered = [], [], []
        for one in asked:
            evidence = {at: name for at, name in enumerate(names) if name in one["haystackSessionIds"]}
            if not evidence:
                unanswered.append(one["question"])
                continue
            fields = {"text": one["question"], "style": one["questionType"], "group": one["questionId"]}
            by_session.append(Judged(evidence=dict(evidence), **fields))
            if nearest := _most_words(one["groundTruth"], texts, list(evidence)):
                by_message.append(Judged(evidence={at: at for at in nearest}, **fields))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(
            "set",
            f"{folder} is not a judged set ({type(error).__name__}: {error}); expected sessions.json (sessionId, "
            "messages with content) and questions.json (questionId, questionType, question, groundTruth, "
            "haystackSessionIds)",
        ) from error
    kinds = {"abstention": unanswered, "foreign": list(FOREIGN)}
    return [
        JudgedSet(name=f"{folder.name}/{by}", texts=texts, sessions=[*names], questions=judged, unanswered=kinds)
        for by, judged in (("sessions", by_session), ("messages", by_message))
    ]


def _most_words(answer: str, texts: list[str], positions: list[int]) -> list[int]:
    words = _words(answer)
    shared = [len(words & _words(texts[position])) for position in positions]
    return [at for at, count in zip(positions, shared, strict=True) if count and count == max(shared)]


def _words(text: str) -> set[str]:
    return {word for word in re.findall(r"\w+", text.lower()) if len(word) > 2}
