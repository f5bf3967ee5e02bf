"""Collapses near-duplicates among ranked rows into groups, so that a page shows different texts.

Equal texts have equal content hashes and collapse without being read. Others collapse if they have the same words,
numbers and symbols in the same order (`text_form.py`).
"""

from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from akosha_assets.lake.serving.search.ranking import Hit, Places, Ranking
from akosha_assets.lake.serving.search.text_form import form_digest
from akosha_assets.lake.serving.time_limit import check_time_limit

# Once a page is full, this many more different texts are read: they may be near-duplicates of shown ones.
TEXTS_BEYOND_PAGE = 3


@dataclass
class Group:
    """A hit and the lower-ranked near-duplicates of it. An earlier page showed the hit if `was_shown`."""

    best: Hit
    text: str
    was_shown: bool = False
    duplicates: list[Hit] = field(default_factory=list)


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
    by_form: dict[bytes, Group] = {}
    rows_read, new_groups, texts_beyond = 0, 0, 0
    for hit in ranking.hits(places):
        check_time_limit()
        rows_read += 1
        group = by_content.get(hit.content)
        if group is not None:
            group.duplicates.append(hit)
            continue
        single = Group(hit, _text(hit), was_shown=rows_read <= shown_rows)
        form = form_digest(single.text)
        near = None if single.was_shown else by_form.get(form)
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
        by_content[hit.content] = by_form[form] = single
    rest = ranking.take(np.arange(rows_read, len(ranking)))
    for hit in rest.take(np.isin(rest.content, np.fromiter(by_content, np.uint64))).hits(places):
        by_content[hit.content].duplicates.append(hit)
    return [group for group in groups if not group.was_shown], texts_beyond > 0


def _text(hit: Hit) -> str:
    text: str = hit.part.payload.value("text", hit.row)
    return text
