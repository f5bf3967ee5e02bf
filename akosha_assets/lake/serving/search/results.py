"""Renders hits as JSON-like results: fields, duplicates, snippets, facets, a token budget. Ranks nothing."""

import math
from datetime import UTC, date, datetime
from typing import Any, TypedDict

import numpy as np

from akosha_assets.lake.errors import InvalidRequest
from akosha_assets.lake.passages import span_in_characters
from akosha_assets.lake.serving.parts.part import CODED, Categories, Part
from akosha_assets.lake.serving.parts.source_presence import PRESENT
from akosha_assets.lake.serving.query import Filters
from akosha_assets.lake.serving.search.collapsing import Group
from akosha_assets.lake.serving.search.ranking import Hit
from akosha_assets.lake.serving.search.relevance import RelevanceScale
from akosha_assets.lake.serving.snapshot import Snapshot, TierView
from akosha_assets.lake.serving.states import CLOSE, TierStatus, ViewState
from akosha_assets.lake.serving.text.snippets import SNIPPET_CHARS, plain_snippet, snippet
from akosha_assets.lake.serving.time_limit import TimeLimitExceeded, check_time_limit

BYTES_PER_TOKEN = 4
# Names of collapsed memories that a result has; `count` has all of them.
COLLAPSED_NAMES = 10
FACETS = ("system_id", "project", "kind", "category", "namespace", "source_type", "event_day", "tier")
FACET_VALUES = 20


class MemoryFields(TypedDict):
    """One memory as every answer shows it."""

    system_id: str | None
    kind: str | None
    id: str
    text: str
    is_summary: bool
    tier: str
    event_day: date
    occurred_at: datetime
    occurred_from: str
    arrived_at: datetime
    project: str | None
    namespace: str | None
    category: str | None
    source_type: str | None
    session_id: str | None
    importance: float | None
    tags: list[str]
    upload_id: str | None
    absent_since: datetime | None


class MemoryName(TypedDict):
    """What identifies a memory."""

    system_id: str | None
    kind: str | None
    id: str


class DuplicateFields(TypedDict):
    """The near-duplicates that a result stands for: their number, the systems that have them or the result itself, and
    the names of the first `COLLAPSED_NAMES` of them.
    """

    count: int
    systems: list[str]
    memories: list[MemoryName]


class ResultFields(MemoryFields):
    """One memory that a search found."""

    score: float
    scores: dict[str, float]
    relevance: float
    duplicates: DuplicateFields
    snippet: dict[str, Any]
    is_truncated: bool


class Closeness(TypedDict):
    """Whether the results of a page are about the question."""

    is_close: bool
    below_line: int
    message: str | None


class TierReport(TypedDict):
    """What one tier contributed to an answer."""

    state: TierStatus
    reason: str | None
    version: int | None
    watermark: datetime | None
    rows: int
    rows_with_vector: int
    rows_set_aside: int
    days_on_disk: int


def render_group(
    group: Group,
    terms: dict[str, Categories],
    stems: frozenset[str],
    scale: RelevanceScale,
    failures: list[Exception],
    passage: tuple[int, int] | None = None,
) -> ResultFields:
    """The result for a group. Its snippet shows the `passage`, start and end in bytes of the whole text, unless only
    other parts have words of a question that also found it by them.

    If the snippet fails, the result has the beginning of its text without highlights, and the error is appended to
    `failures`.
    """
    check_time_limit()
    hit = group.best
    try:
        cut = snippet(_passage_text(group, passage), stems)
        if not cut["highlights"] and passage is not None and "keyword" in hit.scores:
            cut = snippet(group.text, stems)
    except TimeLimitExceeded:
        raise
    except Exception as error:  # noqa: BLE001 - one memory costs its snippet, not the answer
        error.add_note(f"memory {hit.part.payload.value('id', hit.row)}")
        failures.append(error)
        cut = plain_snippet(group.text)
    systems = {
        terms["system_id"].name(int(each.part.codes["system_id"][each.row])) for each in (hit, *group.duplicates)
    }
    return {
        **render_row(hit.tier, hit.part, hit.row, group.text, terms),
        "score": _finite(hit.score),
        "scores": hit.scores,
        "relevance": round(_finite(scale.relevance(hit, group.text)), 3),
        "duplicates": {
            "count": len(group.duplicates),
            "systems": sorted(name for name in systems if name is not None),
            "memories": [_name(each, terms) for each in group.duplicates[:COLLAPSED_NAMES]],
        },
        "snippet": cut,
        "is_truncated": False,
    }


def _name(hit: Hit, terms: dict[str, Categories]) -> MemoryName:
    system_id, kind = (terms[name].name(int(hit.part.codes[name][hit.row])) for name in ("system_id", "kind"))
    return {"system_id": system_id, "kind": kind, "id": hit.part.payload.value("id", hit.row)}


def _passage_text(group: Group, passage: tuple[int, int] | None) -> str:
    """The text of the passage, or of what is before it too if it is shorter than a snippet. The whole text without one,
    and if it is a summary, which has no passages.
    """
    if passage is None or group.best.part.payload.value("is_summary", group.best.row):
        return group.text
    start, end = span_in_characters(group.text, *passage)
    return group.text[max(0, min(start, end - SNIPPET_CHARS)) : end]


def render_row(tier: str, part: Part, row: int, text: str, terms: dict[str, Categories]) -> MemoryFields:
    """The fields of one row, whose text is `text`."""
    coded = {name: terms[name].name(int(codes[row])) for name, codes in part.codes.items()}
    payload = part.payload.without_text(row)
    importance = float(part.importance[row])
    absent_since_us = PRESENT if part.absent_since_us is None else int(part.absent_since_us[row])
    return {
        "system_id": coded["system_id"],
        "kind": coded["kind"],
        "id": payload["id"],
        "text": text,
        "is_summary": payload["is_summary"],
        "tier": tier,
        "event_day": part.day,
        "occurred_at": to_datetime(int(part.occurred_us[row])),
        "occurred_from": payload["occurred_from"],
        "arrived_at": to_datetime(int(part.arrived_us[row])),
        "project": coded["project"],
        "namespace": coded["namespace"],
        "category": coded["category"],
        "source_type": coded["source_type"],
        "session_id": payload["session_id"],
        # NaN is not equal to itself.
        "importance": None if importance != importance else round(importance, 6),
        "tags": payload["tags"] or [],
        "upload_id": payload["upload_id"],
        "absent_since": None if absent_since_us == PRESENT else to_datetime(absent_since_us),
    }


def describe_closeness(results: list[ResultFields]) -> Closeness:
    """How many of `results` are close, and a message if none is."""
    below = sum(result["relevance"] < CLOSE for result in results)
    message = None
    if below == len(results):
        message = "nothing in the fleet is close to the question; the results are only the nearest" if below else None
    return {"is_close": below < len(results), "below_line": below, "message": message}


def fit_budget(results: list[ResultFields], budget_tokens: int | None) -> list[ResultFields]:
    """The first results whose texts fit the budget, at `BYTES_PER_TOKEN`; all of them if it is None.

    If the first text alone exceeds the budget, it is truncated to fit.
    """
    if budget_tokens is None:
        return results
    fitting: list[ResultFields] = []
    tokens_left = budget_tokens
    for result in results:
        tokens = -(-len(result["text"].encode()) // BYTES_PER_TOKEN)
        if tokens > tokens_left:
            if not fitting:
                text = result["text"].encode()[: tokens_left * BYTES_PER_TOKEN].decode("utf-8", "ignore")
                fitting.append({**result, "text": text, "is_truncated": True})
            break
        tokens_left -= tokens
        fitting.append(result)
    return fitting


def count_facets(snapshot: Snapshot, filters: Filters, names: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """For each facet the memories that pass the filters by value: the `FACET_VALUES` most frequent values, descending.

    Raises:
        InvalidRequest: a name is not one of `FACETS`.
    """
    for name in names:
        if name not in FACETS:
            raise InvalidRequest("facets", f"{name!r} cannot be counted; expected some of {', '.join(FACETS)}")
    counts: dict[str, dict[str, int]] = {name: {} for name in names}
    # Count by code plus one; the first entry counts nulls.
    totals = {name: np.zeros(len(snapshot.terms[name].names) + 1, np.int64) for name in names if name in CODED}
    for tier in snapshot.tiers.values():
        for part in tier.parts:
            check_time_limit()
            mask = filters.mask(part, snapshot.terms)
            rows = len(part) if mask is None else int(mask.sum())
            for name, value in (("event_day", part.day.isoformat()), ("tier", tier.name)):
                if name in counts and rows:
                    counts[name][value] = counts[name].get(value, 0) + rows
            for name, total in totals.items():
                codes = part.codes[name] if mask is None else part.codes[name][mask]
                total += np.bincount(codes + 1, minlength=len(total))[: len(total)]
    for name, total in totals.items():
        frequent = np.argsort(-total[1:], kind="stable")[:FACET_VALUES]
        names_of_codes = snapshot.terms[name].names
        counts[name] = {names_of_codes[code]: int(total[code + 1]) for code in frequent.tolist() if total[code + 1]}
    return {
        name: dict(sorted(values.items(), key=lambda pair: (-pair[1], pair[0]))[:FACET_VALUES])
        for name, values in counts.items()
    }


def describe_tier(tier: TierView) -> TierReport:
    """What the tier contributes to an answer."""
    on_disk = tier.days_on_disk
    reason = tier.reason
    if reason is None and on_disk and tier.name == "hot":
        reason = (
            f"{len(on_disk)} days that are older than the hot window or exceed the memory budget are answered from disk"
        )
    return {
        "state": tier_status(tier),
        "reason": reason,
        "version": tier.version,
        "watermark": tier.watermark,
        "rows": tier.rows,
        "rows_with_vector": tier.rows_with_vector,
        "rows_set_aside": tier.rows_set_aside,
        "days_on_disk": len(on_disk),
    }


def tier_status(tier: TierView) -> TierStatus:
    """The status that an answer gives the tier."""
    if tier.state == ViewState.UNAVAILABLE and tier.version is not None:
        return TierStatus.STALE
    if tier.state == ViewState.LOADING or (tier.state == ViewState.READY and tier.rows_set_aside):
        return TierStatus.PARTIAL
    return TierStatus.ANSWERED if tier.state == ViewState.READY else TierStatus(tier.state)


def to_datetime(microseconds: int) -> datetime:
    """The time in UTC of microseconds since 1970."""
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).replace(microsecond=microseconds % 1_000_000)


def _finite(number: float) -> float:
    """`number`, or 0 where vectors without a direction give none: JSON has no NaN."""
    return number if math.isfinite(number) else 0.0
