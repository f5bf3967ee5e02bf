"""Collapses near-duplicates among ranked rows into groups, so that a page shows different texts.

Equal texts have equal content hashes and collapse without being read; others are compared by the words they share.
"""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

import numpy as np

from akosha_assets.lake.serving.search.ranking import Hit, Places, Ranking
from akosha_assets.lake.serving.time_limit import check_time_limit

# Two texts are near-duplicates if the Jaccard similarity of their words is at least this.
DUPLICATE_SHARE = 0.85
# Of longer texts only the beginning is compared, and only if their lengths are similar.
COMPARED_CHARS = 1 << 16
# Hits whose scores differ by more than this share are never compared.
SCORE_SHARE = 0.1
# Once a page is full, this many more different texts are read: they may be near-duplicates of shown ones.
TEXTS_BEYOND_PAGE = 3


@dataclass
class Group:
    """A hit and the lower-ranked near-duplicates of it. An earlier page showed the hit if `was_shown`."""

    best: Hit
    text: str
    was_shown: bool = False
    duplicates: list[Hit] = field(default_factory=list)

    @cached_property
    def words(self) -> frozenset[str]:
        """The words of the first `COMPARED_CHARS` of the text."""
        return frozenset(self.text[:COMPARED_CHARS].split())


def collapse(
    ranking: Ranking, places: Places, limit: int, shown: np.ndarray, *, collapse: bool
) -> tuple[list[Group], bool]:
    """The first `limit` groups, best first, and whether there are more.

    A group has every row of `ranking` with one of its texts. `shown`, (results, 2) uint64, has the identities and
    content hashes that earlier pages showed: no such memory is in a group, nor, with `collapse`, a near-duplicate.
    """
    if not collapse:
        hits = ranking.exclude(shown[:, 0]).hits(places)
        singles = [Group(hit, _text(hit)) for hit in islice(hits, limit + 1)]
        return singles[:limit], len(singles) > limit
    shown_rows = 0
    if len(shown):
        is_shown = np.isin(ranking.identity, shown[:, 0]) | np.isin(ranking.content, shown[:, 1])
        # They come first, whatever their rank is now, so that near-duplicates collapse into them.
        ranking = ranking.take(np.argsort(~is_shown, kind="stable"))
        shown_rows = int(is_shown.sum())
    groups: list[Group] = []
    by_content: dict[int, Group] = {}
    rows_read, new_groups, texts_beyond = 0, 0, 0
    for hit in ranking.hits(places):
        check_time_limit()
        rows_read += 1
        group = by_content.get(hit.content)
        if group is not None:
            group.duplicates.append(hit)
            continue
        single = Group(hit, _text(hit), was_shown=rows_read <= shown_rows)
        near = None if single.was_shown else next((each for each in groups if _are_near(each, single)), None)
        if near is not None:
            near.duplicates.append(hit)
            by_content[hit.content] = near
            continue
        if not single.was_shown:
            if new_groups == limit:
                texts_beyond += 1
                if texts_beyond == TEXTS_BEYOND_PAGE:
                    break
                continue
            new_groups += 1
        groups.append(single)
        by_content[hit.content] = single
    rest = ranking.take(np.arange(rows_read, len(ranking)))
    for hit in rest.take(np.isin(rest.content, np.fromiter(by_content, np.uint64))).hits(places):
        by_content[hit.content].duplicates.append(hit)
    return [group for group in groups if not group.was_shown], texts_beyond > 0


def _text(hit: Hit) -> str:
    text: str = hit.part.payload.value("text", hit.row)
    return text


def _are_near(group: Group, single: Group) -> bool:
    if group.text == single.text:
        return True
    scores = single.best.scores
    for name, score in group.best.scores.items():
        if name in scores and abs(score - scores[name]) > SCORE_SHARE * abs(score):
            return False
    shorter, longer = sorted((len(group.text), len(single.text)))
    if longer > COMPARED_CHARS and shorter < DUPLICATE_SHARE * longer:
        return False
    smaller, larger = sorted((len(group.words), len(single.words)))
    if not smaller or smaller < DUPLICATE_SHARE * larger:
        return False
    common = len(group.words & single.words)
    return common >= DUPLICATE_SHARE * (smaller + larger - common)
