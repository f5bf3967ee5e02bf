"""Keeps the keyword index in step with the files that a replica serves: words of new files come in, those of others go.

Which files are served is `tier_replica.py`'s to say; publishing is `replica.py`'s.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from datetime import date

from akosha_assets.lake.serving.parts.part import RowRange
from akosha_assets.lake.serving.replica.checkpoint import Checkpoint
from akosha_assets.lake.serving.replica.tier_replica import TierReplica
from akosha_assets.lake.serving.text.keyword_index import KeywordIndex, KeywordIndexUnavailable

logger = logging.getLogger(__name__)

# Words are committed in between where more rows than this came in one step.
COMMIT_ROWS = 300_000


class KeywordUpdate:
    """One update of `keywords` to the files that `tiers` serve. `go_on` is called between files and may raise."""

    def __init__(self, keywords: KeywordIndex, tiers: Iterable[TierReplica], go_on: Callable[[], None]):
        self.keywords, self.tiers, self.go_on = keywords, tuple(tiers), go_on

    def run(self, on_commit: Callable[[], None]) -> None:
        """Make the index hold exactly the rows that are served; `on_commit` is called after each commit in between."""
        waiting = self._remove_rows()
        missing = self._missing()
        self.keywords.expect(sum(load.stop - load.start for _, loads in missing for load in loads.values()))
        for tier, loads in missing:
            for path, load in loads.items():
                self.go_on()
                self._index_file(tier, path, load)
            tier.numbered |= loads
            waiting += sum(load.stop - load.start for load in loads.values())
            if waiting > COMMIT_ROWS:
                self.keywords.commit()
                on_commit()
                waiting = 0
        if waiting:
            self.keywords.commit()
        self.keywords.expect(0)

    def _remove_rows(self) -> int:
        """Files that are no longer served are removed; returns how many."""
        removed = 0
        for tier in self.tiers:
            for path in [path for path in tier.numbered if path not in tier.loads]:
                self.keywords.remove(tier.numbered.pop(path).start)
                tier.without_words.pop(path, None)
                tier.loader.files.discard(path)
                removed += 1
        return removed

    def _missing(self) -> list[tuple[TierReplica, dict[str, RowRange]]]:
        """Served files without words, those of each day of each tier together, newest days first."""
        missing: dict[tuple[date, str], dict[str, RowRange]] = defaultdict(dict)
        by_name = {tier.tier: tier for tier in self.tiers}
        for tier in self.tiers:
            for path, load in tier.loads.items():
                if path not in tier.numbered:
                    missing[load.day, tier.tier][path] = load
        return [(by_name[name], missing[day, name]) for day, name in sorted(missing, reverse=True)]

    def _index_file(self, tier: TierReplica, path: str, load: RowRange) -> None:
        """The rows of a file are in the index with the next commit; those that cannot be are found by meaning alone."""
        try:
            skipped = sum(self.keywords.add(part, load.start, load.stop) for part in tier.parts.get(load.day, ()))
        except KeywordIndexUnavailable:
            raise
        except Exception as error:  # the limit of what one file may cost: its words
            logger.exception("the words of a data file are left out", extra={"path": path, "cause": str(error)})
            self.keywords.remove(load.start)
            skipped = load.stop - load.start
        if skipped:
            tier.without_words[path] = skipped


def update_keywords(
    keywords: KeywordIndex,
    tiers: Collection[TierReplica],
    checkpoint: Checkpoint,
    *,
    go_on: Callable[[], None],
    on_commit: Callable[[], None],
) -> KeywordIndex:
    """The index with the rows that are served: `keywords`, or one in memory where its disk fails meanwhile."""
    try:
        KeywordUpdate(keywords, tiers, go_on).run(on_commit)
    except KeywordIndexUnavailable as error:
        if keywords.folder is None:
            raise
        checkpoint.cache.diagnose(error)
        keywords.close()
        for tier in tiers:
            tier.forget_words()
        keywords = checkpoint.replace_keywords()
        KeywordUpdate(keywords, tiers, go_on).run(on_commit)
    return keywords
