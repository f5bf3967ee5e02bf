"""Snapshots of earlier versions of the hot and warm tables.

Rows that both versions have are shared with the replica, also those of files that were rewritten since; rows that were
removed since come from `removed_rows.py`. Cold keeps no earlier versions, so it is skipped and the answer says so.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from threading import Lock

import numpy as np

from akosha_assets.lake.errors import InvalidRequest, StoreUnavailable
from akosha_assets.lake.serving.parts.part import Part, RowRange
from akosha_assets.lake.serving.query import Filters, ParsedQuery
from akosha_assets.lake.serving.replica.replica import Replica
from akosha_assets.lake.serving.snapshot import Snapshot, TierView
from akosha_assets.lake.serving.states import ViewState
from akosha_assets.lake.serving.table_log.files import Listing
from akosha_assets.lake.serving.table_log.versions import Versions
from akosha_assets.lake.serving.text.keyword_index import KeywordIndexUnavailable, KeywordSearcher
from akosha_assets.lake.serving.time_travel.removed_rows import MAX_FILES, RemovedRows

# The tiers whose tables keep earlier versions.
VERSIONED_TIERS = ("hot", "warm")
COLD_SKIPPED = "as_of applies to hot and warm; cold is not searched as of an earlier time"


@dataclass(frozen=True)
class _MergedKeywords:
    """Keyword search over present and removed rows, each ranked by the statistics of its own index."""

    searchers: tuple[KeywordSearcher, ...]

    def search(self, question: ParsedQuery, filters: Filters, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(n,) int64 row ids and (n,) float32 BM25 scores of the best `k` rows, best first."""
        results = [searcher.search(question, filters, k) for searcher in self.searchers]
        row_ids, scores = (np.concatenate(columns) for columns in zip(*results, strict=True))
        best = np.argsort(-scores, kind="stable")[:k]
        return row_ids[best], scores[best]

    def full_score(self, question: ParsedQuery) -> float:
        """The highest score of a row of average length with each word once, of all indexes."""
        return max(searcher.full_score(question) for searcher in self.searchers)

    def word_weights(self, question: ParsedQuery) -> dict[str, float]:
        """The inverse document frequency of each stem that is looked for."""
        return self.searchers[0].word_weights(question)

    def highlights(self, question: ParsedQuery) -> frozenset[str]:
        """Stems of the words of a question that are searched for."""
        return self.searchers[0].highlights(question)

    def has_tag(self, tag: str) -> bool:
        """Whether a present or removed row has the tag."""
        return any(searcher.has_tag(tag) for searcher in self.searchers)


class TimeTravel:
    """Makes snapshots of earlier versions of the tables of `replica`, in any thread, one at a time.

    Removed rows may take `max_bytes`, most of them on disk, and come from `max_files`, or as many as one snapshot
    needs.
    """

    def __init__(self, replica: Replica, *, max_bytes: int, max_files: int = MAX_FILES):
        self.replica = replica
        self._versions = {tier: Versions(replica.lake, f"lifecycle/{tier}") for tier in VERSIONED_TIERS}
        self._max_bytes, self._max_files = max_bytes, max_files
        self._removed = self._no_removed_rows()
        self._lock = Lock()

    def snapshot(self, as_of: int | datetime) -> Snapshot:
        """The tables as of a time, or as of the commit of version `as_of` of the hot table.

        Raises:
            InvalidRequest: it is in the future, or before the oldest version that can be read, which the message
                names.
            StoreUnavailable: a table could not be read or is still being loaded, or the serving cache cannot be
                written.
        """
        with self._lock:
            try:
                return self._snapshot(as_of)
            except (KeywordIndexUnavailable, OSError) as error:
                # The disk is full, or somebody removed the folder: the next call starts with an empty one.
                self._removed.close()
                self._removed = self._no_removed_rows()
                raise StoreUnavailable(str(self.replica.folder), f"the serving cache failed: {error}") from error

    def _no_removed_rows(self) -> RemovedRows:
        return RemovedRows(
            self.replica.lake,
            self.replica.folder / "past",
            self.replica.terms,
            {tier: self.replica.quantizers[tier] for tier in VERSIONED_TIERS},
            max_bytes=self._max_bytes,
            max_files=self._max_files,
        )

    def _snapshot(self, as_of: int | datetime) -> Snapshot:
        present = self.replica.snapshot
        for tier in VERSIONED_TIERS:
            if present.tiers[tier].state == ViewState.LOADING:
                raise StoreUnavailable(self.replica.lake.uri(f"lifecycle/{tier}"), f"{tier} is still being loaded")
        at = self._time(as_of, present)
        listings = {tier: self._listing(tier, at, as_of, present.tiers[tier]) for tier in VERSIONED_TIERS}
        self._removed.pinned = {
            (tier, file.path)
            for tier, listing in listings.items()
            if listing is not None
            for files in listing.new_files(present.tiers[tier].row_ranges).values()
            for file in files
        }
        hot = self._view(present.tiers["hot"], listings["hot"], at, {})
        # Identities of the visible hot rows by day: their older forms in warm are hidden.
        hot_identities: dict[date, list[np.ndarray]] = defaultdict(list)
        for part in hot.parts:
            visible = part.identity if part.hidden is None else part.identity[~part.hidden]
            hot_identities[part.day].append(visible)
        warm = self._view(present.tiers["warm"], listings["warm"], at, hot_identities)
        cold = present.tiers["cold"]
        if cold.state != ViewState.EMPTY:
            cold = TierView("cold", ViewState.SKIPPED, COLD_SKIPPED)
        presence = present.presence.until(round(at.timestamp() * 1_000_000))
        tiers = {name: view.with_presence(presence) for name, view in (("hot", hot), ("warm", warm), ("cold", cold))}
        rows = sum(len(part) for tier in tiers.values() for part in tier.parts)
        unindexed = max(0, present.rows - present.keyword_rows)
        keywords = self._keywords(present, tiers)
        return Snapshot(tiers, keywords, rows - unindexed, present.terms, present.hashed, presence)

    def close(self) -> None:
        """Closes the index of removed rows."""
        with self._lock:
            self._removed.close()

    def _time(self, as_of: int | datetime, present: Snapshot) -> datetime:
        newest = present.tiers["hot"].version
        if isinstance(as_of, datetime):
            # Watermarks are valid times even if the writer's clock is ahead of this one.
            watermarks = [view.watermark for view in present.tiers.values() if view.watermark is not None]
            if as_of > max([datetime.now(UTC), *watermarks]):
                raise InvalidRequest("as_of", f"{as_of.isoformat()} is in the future; expected a time that has passed")
            return as_of
        if newest is None or not 0 <= as_of <= newest:
            raise InvalidRequest("as_of", f"the hot table has no version {as_of}; expected one up to {newest or 0}")
        at = self._versions["hot"].committed_at(as_of)
        if at is None:
            raise self._versions["hot"].too_old(
                f"the log of lifecycle/hot no longer has the commit time of version {as_of}", newest
            )
        return at

    def _listing(self, tier: str, at: datetime, as_of: int | datetime, view: TierView) -> Listing | None:
        """The files that the tier's table had; None if it did not exist yet."""
        if view.version is None:
            return None
        versions = self._versions[tier]
        version = as_of if tier == "hot" and isinstance(as_of, int) else versions.at(at, view.version)
        if version is None:
            return None
        if version != view.version and not versions.is_whole(version, view.row_ranges):
            raise versions.too_old(f"files of version {version} of lifecycle/{tier} are removed by now", view.version)
        return versions.listing(version)

    def _view(
        self, view: TierView, listing: Listing | None, at: datetime, hotter: Mapping[date, list[np.ndarray]]
    ) -> TierView:
        """The tier with the rows of `listing`, without memories whose identities are in `hotter`, by day."""
        if view.version is None and view.state == ViewState.UNAVAILABLE:
            return view
        if listing is None:
            return TierView(view.name, ViewState.EMPTY, f"the {view.name} table did not exist then")
        unchanged: dict[date, list[RowRange]] = defaultdict(list)
        for path, row_range in view.row_ranges.items():
            if path in listing.files:
                unchanged[row_range.day].append(row_range)
        removed_files = listing.new_files(view.row_ranges)
        written = {
            day: np.concatenate([self._removed.written(view.name, file) for file in files])
            for day, files in removed_files.items()
        }
        parts = [_shared_rows(part, unchanged[part.day], written.get(part.day)) for part in view.parts]
        for day, files in removed_files.items():
            today = [part.written for part in view.parts if part.day == day]
            present = np.concatenate([np.empty(0, np.uint64), *today])
            parts += [self._removed.removed(view.name, file, present) for file in files]
        visible = [_without(part, hotter.get(part.day, [])) for part in parts if part is not None]
        ordered = tuple(sorted(visible, key=lambda part: part.day, reverse=True))
        # A table that cannot be read now may have commits between the last known one and `at`.
        may_be_stale = (
            view.state == ViewState.UNAVAILABLE and listing.version == view.version and listing.committed_at != at
        )
        state, reason = (view.state, view.reason) if may_be_stale else (ViewState.READY, None)
        return replace(
            view, state=state, reason=reason, version=listing.version, watermark=listing.committed_at, parts=ordered
        )

    def _keywords(self, present: Snapshot, tiers: Mapping[str, TierView]) -> _MergedKeywords:
        """Keyword search over exactly those files that have a visible row in `tiers`."""
        assert isinstance(present.keywords, KeywordSearcher)
        is_visible = {name: _visibility(view) for name, view in tiers.items()}
        invisible = tuple(
            row_range.start
            for name, view in present.tiers.items()
            for row_range in view.row_ranges.values()
            if not is_visible[name](row_range)
        )
        searchers = [replace(present.keywords, without=invisible)]
        if (removed := self._removed.keywords) is not None:
            searchers.append(removed)
        return _MergedKeywords(tuple(searchers))


def _shared_rows(part: Part, unchanged: list[RowRange], written: np.ndarray | None) -> Part | None:
    """The rows of `part` in `unchanged` files, or whose hash is in `written`, (n,) uint64; None without any."""
    hidden = np.ones(len(part), bool) if written is None else ~np.isin(part.written, written)
    for row_range in unchanged:
        first, stop = np.searchsorted(part.row_ids, [row_range.start, row_range.stop])
        hidden[first:stop] = False
    return None if hidden.all() else part.with_hidden(hidden)


def _visibility(view: TierView) -> Callable[[RowRange], bool]:
    """A function that returns whether any row of a file is visible."""
    parts: dict[date, list[Part]] = defaultdict(list)
    for part in view.parts:
        parts[part.day].append(part)

    def is_visible(row_range: RowRange) -> bool:
        for part in parts[row_range.day]:
            first, stop = np.searchsorted(part.row_ids, [row_range.start, row_range.stop]).tolist()
            if first < stop and (part.hidden is None or not part.hidden[first:stop].all()):
                return True
        return False

    return is_visible


def _without(part: Part, hotter: list[np.ndarray]) -> Part:
    """The part with memories hidden whose identities are in `hotter`, each (n,) uint64."""
    if not hotter:
        return part
    hidden = np.isin(part.identity, np.concatenate(hotter))
    return part.with_hidden(hidden if part.hidden is None else hidden | part.hidden)
