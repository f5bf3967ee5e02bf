"""Hits become what a caller sees: fields, near-duplicates folded into one, highlights, counts, a budget of tokens.

What was found and in which order is decided before; nothing here ranks.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from akosha_assets.lake.errors import InvalidRequest
from akosha_assets.lake.serving.parts import CODED, Part, Terms
from akosha_assets.lake.serving.query import Filters
from akosha_assets.lake.serving.ranking import Hit, Places, Ranking
from akosha_assets.lake.serving.snapshot import Snapshot, TierView
from akosha_assets.lake.serving.words import INNER, UNSPACED, beginning, stem

# Two texts are near-duplicates when they share this much of the words of both together.
DUPLICATE_SHARE = 0.85
# Hits whose scores differ by more than this share are never compared.
SCORE_SHARE = 0.1
# Other texts that are looked at once a page is full: a near-duplicate of what it shows may be among them.
LOOKED_BEYOND = 3
SNIPPET_CHARS = 240
BYTES_PER_TOKEN = 4
FACETS = ("system_id", "project", "kind", "category", "namespace", "source_type", "event_day", "tier")
FACET_VALUES = 20
WORD = re.compile(r"[^\W_]+")
INNER_WORD = re.compile(INNER)


@dataclass
class Group:
    """A hit and the near-duplicates of it that were found with it. An earlier page told of one that `is_told`."""

    first: Hit
    text: str
    is_told: bool = False
    others: list[Hit] = field(default_factory=list)

    @cached_property
    def words(self) -> frozenset[str]:
        """The words of the text."""
        return frozenset(self.text.split())


def grouped(ranking: Ranking, places: Places, limit: int, told: frozenset[int], *, collapse: bool) -> tuple[list[Group], bool]:
    """The first `limit` groups, best first, and whether there are more. A group has all copies of its texts that were ranked.

    `told` holds of earlier pages the contents where near-duplicates are folded, else the identities.
    """
    if not collapse:
        hits = ranking.without(np.fromiter(told, np.uint64)).hits(places)
        alone = [Group(hit, _text(hit)) for hit in islice(hits, limit + 1)]
        return alone[:limit], len(alone) > limit
    groups: list[Group] = []
    of_content: dict[int, Group] = {}
    looked, beyond = 0, 0
    for hit in ranking.hits(places):
        looked += 1
        group = of_content.get(hit.content)
        if group is None:
            one = Group(hit, _text(hit), hit.content in told)
            group = next((group for group in groups if _are_near(group, one)), None)
            if group is None and not one.is_told and sum(not group.is_told for group in groups) == limit:
                beyond += 1
                if beyond == LOOKED_BEYOND:
                    break
                continue
            if group is None:
                groups.append(one)
            of_content[hit.content] = group or one
        if group is not None:
            group.others.append(hit)
    rest = ranking.picked(np.arange(looked, len(ranking)))
    for hit in rest.picked(np.isin(rest.content, np.fromiter(of_content, np.uint64))).hits(places):
        of_content[hit.content].others.append(hit)
    return [group for group in groups if not group.is_told], beyond > 0


def _text(hit: Hit) -> str:
    text: str = hit.part.payload.value("text", hit.row)
    return text


def _are_near(group: Group, one: Group) -> bool:
    if group.text == one.text:
        return True
    scores = one.first.scores
    for name, score in group.first.scores.items():
        if name in scores and abs(score - scores[name]) > SCORE_SHARE * abs(score):
            return False
    smaller, larger = sorted((len(group.words), len(one.words)))
    if not smaller or smaller < DUPLICATE_SHARE * larger:
        return False
    common = len(group.words & one.words)
    return common >= DUPLICATE_SHARE * (smaller + larger - common)


def shown(group: Group, terms: dict[str, Terms], stems: frozenset[str]) -> dict[str, Any]:
    """The result that stands for a group."""
    hit = group.first
    systems = {terms["system_id"].name(int(each.part.codes["system_id"][each.row])) for each in (hit, *group.others)}
    return result(hit.tier, hit.part, hit.row, group.text, terms) | {
        "score": hit.score,
        "scores": hit.scores,
        "duplicates": {"count": len(group.others), "systems": sorted(name for name in systems if name is not None)},
        "snippet": snippet(group.text, stems),
        "is_cut": False,
    }


def result(tier: str, part: Part, row: int, text: str, terms: dict[str, Terms]) -> dict[str, Any]:
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


def snippet(text: str, stems: frozenset[str]) -> dict[str, Any]:
    """The stretch of `text` with the most words of the given stems, and where in it they stand."""
    marks = _marks(text, stems) if stems else []
    start = 0
    if marks and len(text) > SNIPPET_CHARS:
        starts = [max(0, first - 40) for first, _ in marks]
        start = max(starts, key=lambda at: sum(at <= first and last <= at + SNIPPET_CHARS for first, last in marks))
        start = min(start, len(text) - SNIPPET_CHARS)
        space = text.find(" ", start, start + 30)
        start = space + 1 if 0 < start < space + 1 else start
    cut = text[start : start + SNIPPET_CHARS]
    return {
        "text": cut,
        "highlights": [[first - start, last - start] for first, last in marks if start <= first and last <= start + len(cut)],
    }


def _marks(text: str, stems: frozenset[str]) -> list[tuple[int, int]]:
    """Where in `text` the words of the given stems, or that begin with a prefix among them, stand."""
    if text.isascii():
        lowered = text.lower()
        return sorted({span for each in stems for span in _spans(text, lowered, each)})
    prefixes = tuple(each[:-1] for each in stems if each.endswith("*"))
    spans: list[tuple[int, int]] = []
    for match in WORD.finditer(text):
        if (run := UNSPACED.search(match[0])) is None:
            word = match[0].lower()
            if (common := stem(word)) in stems or (prefixes and (word.startswith(prefixes) or common.startswith(prefixes))):
                spans.append(match.span())
            continue
        for start in range(match.start() + run.start(), match.end()):
            if text[start : start + 2] in stems:
                # Pairs overlap; a stretch of them is one mark.
                begin = spans.pop()[0] if spans and spans[-1][1] > start else start
                spans.append((begin, min(start + 2, match.end())))
    return spans


def _spans(text: str, lowered: str, common: str) -> Iterator[tuple[int, int]]:
    """Where in `text` words, or words inside names, with the stem `common` stand, or with that prefix where it ends in a star."""
    is_prefix = common.endswith("*")
    begin = common[:-1] if is_prefix else beginning(common)
    start = lowered.find(begin)
    while start >= 0:
        is_begun = not text[max(0, start - 1) : start].isalnum()
        for words in (WORD, INNER_WORD) if is_begun else (INNER_WORD,) if text[start].isupper() else ():
            word = words.match(text, start)
            if word is not None and (is_prefix or stem(word[0].lower()) == common):
                yield word.span()
                break
        start = lowered.find(begin, start + len(begin))


def within_budget(results: list[dict[str, Any]], budget_tokens: int | None) -> list[dict[str, Any]]:
    """As many of `results` as fit the budget, at four bytes a token; the text of the first is cut where it alone exceeds it."""
    if budget_tokens is None:
        return results
    kept: list[dict[str, Any]] = []
    left = budget_tokens
    for one in results:
        tokens = -(-len(one["text"].encode()) // BYTES_PER_TOKEN)
        if tokens > left:
            if not kept:
                cut = one["text"].encode()[: left * BYTES_PER_TOKEN].decode("utf-8", "ignore")
                kept.append(one | {"text": cut, "is_cut": True})
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
        counted[name] = {snapshot.terms[name].names[code]: int(total[code + 1]) for code in best.tolist() if total[code + 1]}
    return {name: dict(sorted(values.items(), key=lambda pair: (-pair[1], pair[0]))[:FACET_VALUES]) for name, values in counted.items()}


def described(tier: TierView) -> dict[str, Any]:
    """What an answer says of one tier."""
    on_disk = tier.days_on_disk
    why = tier.why
    if why is None and on_disk and tier.name == "hot":
        why = f"{len(on_disk)} days that are older than the hot window or exceed the memory budget are answered from disk"
    return {
        "state": _state(tier),
        "why": why,
        "version": tier.version,
        "watermark": tier.watermark,
        "rows": tier.rows,
        "rows_with_vector": tier.rows_with_vector,
        "days_on_disk": len(on_disk),
    }


def _state(tier: TierView) -> str:
    """answered, partial (still loading), stale (the table cannot be followed now), empty or unavailable."""
    if tier.state == "unavailable" and tier.version is not None:
        return "stale"
    return {"ready": "answered", "loading": "partial"}.get(tier.state, tier.state)


def at(microseconds: int) -> datetime:
    """A time in UTC."""
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).replace(microsecond=microseconds % 1_000_000)
