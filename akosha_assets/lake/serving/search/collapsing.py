"""Near-duplicates among ranked rows fold into one group, so that what else was found has room.

Copies are told by the hash of their text, and so fold without being read; other texts by the words that they share.
"""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

import numpy as np

from akosha_assets.lake.serving.search.ranking import Hit, Places, Ranking
from akosha_assets.lake.serving.time_limit import check_time_limit

# Two texts are near-duplicates when they share this much of the words of both together.
DUPLICATE_SHARE = 0.85
# Of longer texts the beginning is compared, where they are nearly as long.
COMPARED_CHARS = 1 << 16
# Hits whose scores differ by more than this share are never compared.
SCORE_SHARE = 0.1
# Other texts that are looked at once a page is full: a near-duplicate of what it shows may be among them.
LOOKED_BEYOND = 3


@dataclass
class Group:
    """A hit and the near-duplicates of it that were found with it. An earlier page told of one that `is_told`."""

    first: Hit
    text: str
    is_told: bool = False
    others: list[Hit] = field(default_factory=list)

    @cached_property
    def words(self) -> frozenset[str]:
        """The words of the text, or of the beginning of a long one."""
        return frozenset(self.text[:COMPARED_CHARS].split())


def collapse(
    ranking: Ranking, places: Places, limit: int, told: np.ndarray, *, collapse: bool
) -> tuple[list[Group], bool]:
    """The first `limit` groups, best first, and whether there are more. A group has all copies of its texts that were
    ranked.

    `told` has the identities and the contents of what earlier pages showed, shape (results, 2). Neither a memory of
    these nor, where near-duplicates are folded, one of its copies is in a group.
    """
    if not collapse:
        hits = ranking.without(told[:, 0]).hits(places)
        alone = [Group(hit, _text(hit)) for hit in islice(hits, limit + 1)]
        return alone[:limit], len(alone) > limit
    last_told = 0
    if len(told):
        is_told = np.isin(ranking.identity, told[:, 0]) | np.isin(ranking.content, told[:, 1])
        # First, whatever their rank is by now: what is nearly the same folds into them.
        ranking = ranking.picked(np.argsort(~is_told, kind="stable"))
        last_told = int(is_told.sum())
    groups: list[Group] = []
    of_content: dict[int, Group] = {}
    looked, beyond = 0, 0
    for hit in ranking.hits(places):
        check_time_limit()
        looked += 1
        group = of_content.get(hit.content)
        if group is None:
            one = Group(hit, _text(hit), looked <= last_told)
            group = None if one.is_told else next((group for group in groups if _are_near(group, one)), None)
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
    shorter, longer = sorted((len(group.text), len(one.text)))
    if longer > COMPARED_CHARS and shorter < DUPLICATE_SHARE * longer:
        return False
    smaller, larger = sorted((len(group.words), len(one.words)))
    if not smaller or smaller < DUPLICATE_SHARE * larger:
        return False
    common = len(group.words & one.words)
    return common >= DUPLICATE_SHARE * (smaller + larger - common)
