"""Updates the keyword index to the files that a replica serves.

`tier_replica.py` decides which files are served; `replica.py` publishes the result.
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

# An update of more rows is committed in several steps.
COMMIT_ROWS = 300_000


class KeywordUpdate:
    """One update of `keywords` to the files that `tiers` serve. Calls `check_stop`, which may raise, between files."""

    def __init__(self, keywords: KeywordIndex, tiers: Iterable[TierReplica], check_stop: Callable[[], None]):
        self.keywords, self.tiers, self.check_stop = keywords, tuple(tiers), check_stop

    def run(self, on_commit: Callable[[], None]) -> None:
        """Add and remove rows until the index holds exactly those that are served.

        Calls `on_commit` after each commit but the last. Raises: KeywordIndexUnavailable.
        """
        waiting = self._remove_rows()
        missing = self._missing()
        self.keywords.expect(
            sum(row_range.stop - row_range.start for _, row_ranges in missing for row_range in row_ranges.values())
        )
        for tier, row_ranges in missing:
            for path, row_range in row_ranges.items():
                self.check_stop()
                self._index_file(tier, path, row_range)
            tier.indexed |= row_ranges
            waiting += sum(row_range.stop - row_range.start for row_range in row_ranges.values())
            if waiting > COMMIT_ROWS:
                self.keywords.commit()
                on_commit()
                waiting = 0
        if waiting:
            self.keywords.commit()
        self.keywords.expect(0)

    def _remove_rows(self) -> int:
        """Remove the files that are no longer served; returns their number."""
        removed = 0
        for tier in self.tiers:
            for path in [path for path in tier.indexed if path not in tier.row_ranges]:
                self.keywords.remove(tier.indexed.pop(path).start)
                tier.unindexed_rows.pop(path, None)
                tier.loader.files.discard(path)
                removed += 1
        return removed

    def _missing(self) -> list[tuple[TierReplica, dict[str, RowRange]]]:
        """The served files that are not in the index, grouped by tier and day, newest days first."""
        missing: dict[tuple[date, str], dict[str, RowRange]] = defaultdict(dict)
        by_name = {tier.tier: tier for tier in self.tiers}
        for tier in self.tiers:
            for path, row_range in tier.row_ranges.items():
                if path not in tier.indexed:
                    missing[row_range.day, tier.tier][path] = row_range
        return [(by_name[name], missing[day, name]) for day, name in sorted(missing, reverse=True)]

    def _index_file(self, tier: TierReplica, path: str, row_range: RowRange) -> None:
        """Add the rows of a file. Rows that cannot be indexed are found by vector search only."""
        try:
            skipped = sum(
                self.keywords.add(part, row_range.start, row_range.stop) for part in tier.parts.get(row_range.day, ())
            )
        except KeywordIndexUnavailable:
            raise
        except Exception as error:  # one file must not stop the update
            logger.exception("a data file cannot be indexed", extra={"path": path, "cause": str(error)})
            self.keywords.remove(row_range.start)
            skipped = row_range.stop - row_range.start
        if skipped:
            tier.unindexed_rows[path] = skipped


def update_keywords(
    keywords: KeywordIndex,
    tiers: Collection[TierReplica],
    checkpoint: Checkpoint,
    *,
    check_stop: Callable[[], None],
    on_commit: Callable[[], None],
) -> KeywordIndex:
    """Update the keyword index. Returns `keywords`, or a new index in memory if the disk of `keywords` failed.

    Raises: KeywordIndexUnavailable if an index in memory fails.
    """
    try:
        KeywordUpdate(keywords, tiers, check_stop).run(on_commit)
    except KeywordIndexUnavailable as error:
        if keywords.folder is None:
            raise
        checkpoint.cache.diagnose(error)
        keywords.close()
        for tier in tiers:
            tier.reset_keywords()
        keywords = checkpoint.replace_keywords()
        KeywordUpdate(keywords, tiers, check_stop).run(on_commit)
    return keywords
