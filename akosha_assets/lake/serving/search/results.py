"""Hits become what a caller sees: fields, counts, a budget of tokens.

What was found and in which order is decided before; nothing here ranks.
"""

from datetime import UTC, datetime
from typing import Any

import numpy as np

from akosha_assets.lake.errors import InvalidRequest
from akosha_assets.lake.serving.parts.part import CODED, Categories, Part
from akosha_assets.lake.serving.query import Filters
from akosha_assets.lake.serving.search.collapsing import Group
from akosha_assets.lake.serving.snapshot import Snapshot, TierView
from akosha_assets.lake.serving.text.snippets import plain_snippet, snippet
from akosha_assets.lake.serving.time_limit import TimeLimitExceeded, check_time_limit

BYTES_PER_TOKEN = 4
FACETS = ("system_id", "project", "kind", "category", "namespace", "source_type", "event_day", "tier")
FACET_VALUES = 20


def render_group(
    group: Group, terms: dict[str, Categories], stems: frozenset[str], failures: list[Exception]
) -> dict[str, Any]:
    """The result that stands for a group. Where no snippet can be made of its text, it has the beginning without marks,
    and `failures` gets the error.
    """
    check_time_limit()
    hit = group.first
    try:
        cut = snippet(group.text, stems)
    except TimeLimitExceeded:
        raise
    except Exception as error:  # noqa: BLE001 - the edge of what one memory may cost: its snippet, not the answer
        error.add_note(f"memory {hit.part.payload.value('id', hit.row)}")
        failures.append(error)
        cut = plain_snippet(group.text)
    systems = {terms["system_id"].name(int(each.part.codes["system_id"][each.row])) for each in (hit, *group.others)}
    return result(hit.tier, hit.part, hit.row, group.text, terms) | {
        "score": hit.score,
        "scores": hit.scores,
        "duplicates": {"count": len(group.others), "systems": sorted(name for name in systems if name is not None)},
        "snippet": cut,
        "is_truncated": False,
    }


def result(tier: str, part: Part, row: int, text: str, terms: dict[str, Categories]) -> dict[str, Any]:
    """One row, whose text was read, as answers show it."""
    coded = {name: terms[name].name(int(codes[row])) for name, codes in part.codes.items()}
    payload = part.payload.beside_text(row)
    importance = float(part.importance[row])
    return {
        "system_id": coded["system_id"],
        "kind": coded["kind"],
        "id": payload["id"],
        "text": text,
        "is_summary": payload["is_summary"],
        "tier": tier,
        "event_day": part.day,
        "occurred_at": at(int(part.occurred_us[row])),
        "occurred_from": payload["occurred_from"],
        "arrived_at": at(int(part.arrived_us[row])),
        "project": coded["project"],
        "namespace": coded["namespace"],
        "category": coded["category"],
        "source_type": coded["source_type"],
        "session_id": payload["session_id"],
        "importance": None if importance != importance else round(importance, 6),
        "tags": payload["tags"] or [],
        "upload_id": payload["upload_id"],
    }


def fit_budget(results: list[dict[str, Any]], budget_tokens: int | None) -> list[dict[str, Any]]:
    """As many of `results` as fit the budget, at four bytes a token; the text of the first is cut where it alone
    exceeds it.
    """
    if budget_tokens is None:
        return results
    kept: list[dict[str, Any]] = []
    left = budget_tokens
    for one in results:
        tokens = -(-len(one["text"].encode()) // BYTES_PER_TOKEN)
        if tokens > left:
            if not kept:
                cut = one["text"].encode()[: left * BYTES_PER_TOKEN].decode("utf-8", "ignore")
                kept.append(one | {"text": cut, "is_truncated": True})
            break
        left -= tokens
        kept.append(one)
    return kept


def facets(snapshot: Snapshot, filters: Filters, wanted: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """For each of `wanted`, how many memories that pass the filters have each value; the most frequent values."""
    counted: dict[str, dict[str, int]] = {name: {} for name in wanted}
    for name in wanted:
        if name not in FACETS:
            raise InvalidRequest("facets", f"{name!r} cannot be counted; expected some of {', '.join(FACETS)}")
    totals = {name: np.zeros(len(snapshot.terms[name].names) + 1, np.int64) for name in wanted if name in CODED}
    for tier in snapshot.tiers.values():
        for part in tier.parts:
            check_time_limit()
            mask = filters.mask(part, snapshot.terms)
            passing = len(part) if mask is None else int(mask.sum())
            for name, value in (("event_day", part.day.isoformat()), ("tier", tier.name)):
                if name in counted and passing:
                    counted[name][value] = counted[name].get(value, 0) + passing
            for name, total in totals.items():
                codes = part.codes[name] if mask is None else part.codes[name][mask]
                total += np.bincount(codes + 1, minlength=len(total))[: len(total)]
    for name, total in totals.items():
        best = np.argsort(-total[1:], kind="stable")[:FACET_VALUES]
        counted[name] = {
            snapshot.terms[name].names[code]: int(total[code + 1]) for code in best.tolist() if total[code + 1]
        }
    return {
        name: dict(sorted(values.items(), key=lambda pair: (-pair[1], pair[0]))[:FACET_VALUES])
        for name, values in counted.items()
    }


def describe_tier(tier: TierView) -> dict[str, Any]:
    """What an answer says of one tier."""
    on_disk = tier.days_on_disk
    reason = tier.reason
    if reason is None and on_disk and tier.name == "hot":
        reason = (
            f"{len(on_disk)} days that are older than the hot window or exceed the memory budget are answered from disk"
        )
    return {
        "state": _state(tier),
        "reason": reason,
        "version": tier.version,
        "watermark": tier.watermark,
        "rows": tier.rows,
        "rows_with_vector": tier.rows_with_vector,
        "rows_set_aside": tier.rows_set_aside,
        "days_on_disk": len(on_disk),
    }


def _state(tier: TierView) -> str:
    """answered, partial (still loading, or without rows that cannot be read), stale (the table cannot be followed now),
    empty or unavailable.
    """
    if tier.state == "unavailable" and tier.version is not None:
        return "stale"
    if tier.state == "ready" and tier.rows_set_aside:
        return "partial"
    return {"ready": "answered", "loading": "partial"}.get(tier.state, tier.state)


def at(microseconds: int) -> datetime:
    """A time in UTC."""
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).replace(microsecond=microseconds % 1_000_000)
