"""Snapshots of earlier versions of the hot and warm tables: today's parts without what came since, and the rows that
left.

Rows that both versions hold are shared with the replica, also those of a file that was written again around them; those
that left are `removed_rows.py`'s. Cold keeps no earlier versions worth asking, so it is left out and the answer says
so.
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
from akosha_assets.lake.serving.table_log.files import Listing
from akosha_assets.lake.serving.table_log.versions import Versions
from akosha_assets.lake.serving.text.keyword_index import KeywordSearcher
from akosha_assets.lake.serving.time_travel.removed_rows import MAX_FILES, RemovedRows

TIERS = ("hot", "warm")
COLD = "as_of reaches back in hot and warm; cold is not asked as of a past time"


@dataclass(frozen=True)
class _BothWords:
    """The words of rows that are still there and of rows that left, each kind weighed by its own index."""

    searchers: tuple[KeywordSearcher, ...]

    def search(self, question: ParsedQuery, filters: Filters, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers and BM25 scores of the best `k`, best first."""
        found = [searcher.search(question, filters, k) for searcher in self.searchers]
        numbers, scores = (np.concatenate(columns) for columns in zip(*found, strict=True))
        best = np.argsort(-scores, kind="stable")[:k]
        return numbers[best], scores[best]

    def highlights(self, question: ParsedQuery) -> frozenset[str]:
        """Stems of the words of a question that are looked for."""
        return self.searchers[0].highlights(question)


class TimeTravel:
    """Makes snapshots of earlier versions for `replica`.

    Rows that left may have `max_bytes`, most of them on disk, and come of `max_files`, or of as many as one snapshot
    needs.
    """

    def __init__(self, replica: Replica, *, max_bytes: int, max_files: int = MAX_FILES):
        self.replica = replica
        lake = replica.lake
        self._versions = {tier: Versions(lake, f"lifecycle/{tier}") for tier in TIERS}
        quantizers = {tier: replica.quantizers[tier] for tier in TIERS}
        self._departed = RemovedRows(
            lake, replica.folder / "past", replica.terms, quantizers, max_bytes=max_bytes, max_files=max_files
        )
        self._one_at_a_time = Lock()

    def snapshot(self, as_of: int | datetime) -> Snapshot:
        """The tables as they stood: at a time, or when the hot table got the version `as_of`.

        Raises:
            InvalidRequest: that is ahead, or further back than files and log are kept; the message says how far back
                one may ask.
            StoreUnavailable: a table could not be read, or is still being loaded.
        """
        with self._one_at_a_time:
            base = self.replica.snapshot
            for tier in TIERS:
                if base.tiers[tier].state == "loading":
                    raise StoreUnavailable(self.replica.lake.uri(f"lifecycle/{tier}"), f"{tier} is still being loaded")
            at = self._time(as_of, base)
            listings = {tier: self._listing(tier, at, as_of, base.tiers[tier]) for tier in TIERS}
            self._departed.wanted = {
                (tier, file.path)
                for tier, listing in listings.items()
                if listing is not None
                for files in listing.beside(base.tiers[tier].loads).values()
                for file in files
            }
            hot = self._view(base.tiers["hot"], listings["hot"], at, {})
            above: dict[date, list[np.ndarray]] = defaultdict(list)
            for part in hot.parts:
                above[part.day].append(part.identity if part.hidden is None else part.identity[~part.hidden])
            warm = self._view(base.tiers["warm"], listings["warm"], at, above)
            cold = TierView("cold", "skipped", COLD) if base.tiers["cold"].state != "empty" else base.tiers["cold"]
            tiers = {"hot": hot, "warm": warm, "cold": cold}
            rows = sum(len(part) for tier in tiers.values() for part in tier.parts)
            missing = max(0, base.rows - base.keyword_rows)
            return Snapshot(tiers, self._keywords(base, tiers), rows - missing, base.terms, base.hashed)

    def close(self) -> None:
        """Nothing of this is open any more."""
        with self._one_at_a_time:
            self._departed.close()

    def _time(self, as_of: int | datetime, base: Snapshot) -> datetime:
        newest = base.tiers["hot"].version
        if isinstance(as_of, datetime):
            # A watermark that was shown may be asked for, though the writer's clock is ahead of this one.
            shown = [view.watermark for view in base.tiers.values() if view.watermark is not None]
            if as_of > max([datetime.now(UTC), *shown]):
                raise InvalidRequest("as_of", f"{as_of.isoformat()} lies ahead; expected a time that has passed")
            return as_of
        if newest is None or not 0 <= as_of <= newest:
            raise InvalidRequest("as_of", f"the hot table has no version {as_of}; expected one up to {newest or 0}")
        at = self._versions["hot"].committed_at(as_of)
        if at is None:
            raise self._versions["hot"].too_old(
                f"the log of lifecycle/hot tells no more when version {as_of} was committed", newest
            )
        return at

    def _listing(self, tier: str, at: datetime, as_of: int | datetime, view: TierView) -> Listing | None:
        """The files that the tier's table had; None where there was no table yet."""
        if view.version is None:
            return None
        versions = self._versions[tier]
        version = as_of if tier == "hot" and isinstance(as_of, int) else versions.at(at, view.version)
        if version is None:
            return None
        if version != view.version and not versions.is_whole(version, view.loads):
            raise versions.too_old(f"files of version {version} of lifecycle/{tier} are removed by now", view.version)
        return versions.listing(version)

    def _view(
        self, view: TierView, listing: Listing | None, at: datetime, above: Mapping[date, list[np.ndarray]]
    ) -> TierView:
        if view.version is None and view.state == "unavailable":
            return view
        if listing is None:
            return TierView(view.name, "empty", f"the {view.name} table did not exist then")
        kept: dict[date, list[RowRange]] = defaultdict(list)
        for path, load in view.loads.items():
            if path in listing.files:
                kept[load.day].append(load)
        left = listing.beside(view.loads)
        written = {
            day: np.concatenate([self._departed.written(view.name, file) for file in files])
            for day, files in left.items()
        }
        parts = [_only(part, kept[part.day], written.get(part.day)) for part in view.parts]
        for day, files in left.items():
            today = np.concatenate([np.empty(0, np.uint64), *(part.written for part in view.parts if part.day == day)])
            parts += [self._departed.gone(view.name, file, today) for file in files]
        shown = [_below(part, above.get(part.day, [])) for part in parts if part is not None]
        ordered = tuple(sorted(shown, key=lambda part: part.day, reverse=True))
        # Of a table that cannot be followed now, nobody knows whether it had changed between its last known commit and
        # then.
        may_lack = view.state == "unavailable" and listing.version == view.version and listing.committed_at != at
        state, reason = (view.state, view.reason) if may_lack else ("ready", None)
        return replace(
            view, state=state, reason=reason, version=listing.version, watermark=listing.committed_at, parts=ordered
        )

    def _keywords(self, base: Snapshot, then: Mapping[str, TierView]) -> _BothWords:
        """The words of just those files of which rows are shown."""
        assert isinstance(base.keywords, KeywordSearcher)
        shown = {name: _shown(view) for name, view in then.items()}
        since = tuple(
            load.start for name, view in base.tiers.items() for load in view.loads.values() if not shown[name](load)
        )
        departed = self._departed.words
        return _BothWords((replace(base.keywords, without=since), *([departed] if departed is not None else [])))


def _only(part: Part, loads: list[RowRange], written: np.ndarray | None) -> Part | None:
    """The part with only the rows of `loads` and those that were written as `written` says; None where it has none of
    them.
    """
    hidden = np.ones(len(part), bool) if written is None else ~np.isin(part.written, written)
    for load in loads:
        hidden[np.searchsorted(part.row_ids, load.start) : np.searchsorted(part.row_ids, load.stop)] = False
    return None if hidden.all() else part.with_hidden(hidden)


def _shown(view: TierView) -> Callable[[RowRange], bool]:
    """Whether some row of a load can be found."""
    parts: dict[date, list[Part]] = defaultdict(list)
    for part in view.parts:
        parts[part.day].append(part)

    def is_shown(load: RowRange) -> bool:
        for part in parts[load.day]:
            first, last = np.searchsorted(part.row_ids, [load.start, load.stop]).tolist()
            if first < last and (part.hidden is None or not part.hidden[first:last].all()):
                return True
        return False

    return is_shown


def _below(part: Part, hotter: list[np.ndarray]) -> Part:
    """The part without the memories that are among the identities of `hotter`."""
    if not hotter:
        return part
    hidden = np.isin(part.identity, np.concatenate(hotter))
    return part.with_hidden(hidden if part.hidden is None else hidden | part.hidden)
