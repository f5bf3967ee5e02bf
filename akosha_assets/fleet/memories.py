"""The wording of the fleet's memories: one incident of a topic becomes turns, notes, decisions and insights.

Text only; `machine.py` decides when and where a memory happens, `rows.py` makes its row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

from akosha_assets.fleet.topics import Topic

Role = Literal["problem", "fix", "check", "fact", "lesson", "decision", "insight", "checkpoint", "note"]

PROJECTS = (
    "atlas-api", "billing-ui", "orders", "ledger", "mahavishnu", "search-gateway", "payments", "inventory",
    "notification-hub", "identity", "data-platform", "reports", "checkout", "fleet-console", "mobile-sync", "pricing",
    "warehouse-etl", "media-encoder", "audit-trail", "partner-portal", "feature-flags", "telemetry", "scheduler",
    "docs-site",
)  # fmt: skip
PEOPLE = (
    "ada",
    "grace",
    "linus",
    "barbara",
    "ken",
    "margaret",
    "dennis",
    "radia",
    "edsger",
    "frances",
    "donald",
    "hedy",
)
PLACES = (
    "staging",
    "production",
    "the EU region",
    "the canary",
    "the nightly build",
    "my laptop",
    "the load test",
    "the US region",
)
SINCE = (
    "since the deploy this morning", "since we upgraded the base image", "only under load",
    "for the third time this week", "right after the release", "while {person} was on call", "for one large customer",
    "since traffic doubled", "after the last dependency update", "but not on {person}'s machine",
    "whenever two jobs overlap", "about {minutes} minutes after the start",
)  # fmt: skip
ASKS = (
    "Can you find out why?", "What is the proper fix?", "Please have a look before the next release.", "Is this known?",
    "How did we solve this last time?", "Please fix it and add a test.",
    "I need the root cause for the incident report.",
)  # fmt: skip
CHECKS = (
    "No new occurrence in {minutes} minutes of load", "The regression test fails without the change and passes with it",
    "{place} has been quiet since", "Error rate is back at its usual level", "{person} confirmed it on the dashboard",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wording:
    """One memory before it has a time and a row."""

    role: Role
    text: str
    tags: tuple[str, ...] = ()


def incident(topic: Topic, project: str, rng: Random) -> Iterator[Wording]:
    """The memories that one incident of `topic` in `project` produces, in order; the problem always comes first."""
    person = rng.choice(PEOPLE)
    place = rng.choice(PLACES)
    values = {"person": person.capitalize(), "minutes": rng.randint(3, 90), "place": place[0].upper() + place[1:]}
    since = rng.choice(SINCE).format(**values)
    symptom = rng.choice(topic.symptoms)
    technology = rng.choice(topic.technologies)
    tags = (topic.area, technology.lower().replace(" ", "-"))
    yield Wording("problem", _problem(topic, project, rng, symptom=symptom, since=since, place=place))
    if rng.random() < 0.8:
        yield Wording("fix", _fix(topic, project, rng, technology=technology))
    if rng.random() < 0.4:
        check = rng.choice(CHECKS).format(**values)
        yield Wording(
            "check",
            (
                f"User: did the change for {project} hold?\nAssistant: Yes. {check}. To recall: {topic.cause}; what "
                f"helped was to {topic.fix}.{_detail(rng)}"
            ),
        )
    if rng.random() < 0.5:
        yield Wording("lesson", _lesson(topic, project, rng, symptom=symptom, since=since), (*tags, "learned"))
    if rng.random() < 0.35:
        yield Wording(
            "decision",
            (
                f"Decision for {project}: {topic.decision}. Reason: {topic.cause}. Agreed with {values['person']} "
                f"after the incident in {place}.{_detail(rng)}"
            ),
            (*tags, "decision"),
        )
    if rng.random() < 0.12:
        yield Wording("fact", f"{values['person']} said that in {project} {topic.decision}.{_detail(rng)}")
    if rng.random() < 0.08:
        yield Wording(
            "insight",
            f"Pattern across {project}: when {symptom}, look at {topic.where} first; {topic.cause}.{_detail(rng)}",
            ("workflow",),
        )
    if rng.random() < 0.07:
        yield Wording(
            "checkpoint",
            (
                f"Session checkpoint: project {project}. Worked on: {symptom}. Next: {topic.fix}. Open files: "
                f"{topic.where}. Quality score {rng.randint(60, 98)}."
            ),
        )
    if rng.random() < 0.06:
        yield Wording("note", f"Note on {technology} in {project}: {topic.fix}.{_detail(rng)}", (topic.area, "note"))


def updated(text: str, rng: Random) -> str:
    """The same note, amended later."""
    return (
        f"{text} Update: still true after {rng.randint(2, 40)} more deploys, {rng.choice(PEOPLE).capitalize()} checked."
    )


def _detail(rng: Random) -> str:
    """A commit, branch, release, ticket or reviewer, which most memories name; it also makes texts unique."""
    match rng.randrange(6):
        case 0:
            return f" Commit {rng.getrandbits(32):08x}."
        case 1:
            return f" Branch fix/{rng.choice(PEOPLE)}-{rng.getrandbits(20):05x}."
        case 2:
            return f" Release {rng.randint(1, 9)}.{rng.randint(0, 40)}.{rng.randint(0, 60)}."
        case 3:
            return f" Ticket {rng.choice(('OPS', 'API', 'DATA', 'WEB'))}-{rng.randint(1, 99)}-{rng.randint(1, 99)}."
        case 4:
            return f" Reviewed by {rng.choice(PEOPLE).capitalize()}, merged in {rng.getrandbits(28):07x}."
        case _:
            return ""


def _problem(topic: Topic, project: str, rng: Random, *, symptom: str, since: str, place: str) -> str:
    opening = rng.choice((f"In {project} {symptom}", f"{project}: {symptom}", f"We see this in {project}: {symptom}"))
    answer = rng.choice(
        (
            f"I traced it to {topic.where}: {topic.cause}.",
            f"The log line points at `{topic.identifier}` in {topic.where}. Most likely {topic.cause}.",
            f"I reproduced it in {place}; {topic.cause}. I would {topic.fix}.",
        )
    )
    return (
        f"User: {opening}, {since}. The log says `{topic.error}`. {rng.choice(ASKS)}\nAssistant: {answer}{_detail(rng)}"
    )


def _fix(topic: Topic, project: str, rng: Random, *, technology: str) -> str:
    ask = rng.choice(
        (
            f"Go ahead with the {technology} fix in {project}.",
            f"Apply it to {project} and tell me what changed.",
            f"Let us fix {project} for good.",
        )
    )
    done = rng.choice(
        (
            f"Done in {topic.where}. The fix is to {topic.fix}; the cause was that {topic.cause}.",
            (
                f"I changed `{topic.identifier}` in {topic.where}: {topic.fix}. I ran the {rng.randint(11, 99)} "
                "tests of the package."
            ),
            (
                f"To solve it I had to {topic.fix}. `{topic.identifier}` is where it happens. From now on "
                f"{topic.decision}."
            ),
        )
    )
    return f"User: {ask}\nAssistant: {done}{_detail(rng)}"


def _lesson(topic: Topic, project: str, rng: Random, *, symptom: str, since: str) -> str:
    note = rng.choice(
        (
            f"{project}: when {symptom}, {topic.fix}. Cause: {topic.cause}. Seen {since}. Error: {topic.error}",
            f"Learned in {project}: {topic.cause}. The remedy in {topic.where} was to {topic.fix}.",
            f"If {symptom} in {project}, check `{topic.identifier}`. {topic.fix[0].upper() + topic.fix[1:]}.",
        )
    )
    return note + _detail(rng)
