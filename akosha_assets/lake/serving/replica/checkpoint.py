"""The checkpoint of a replica: the state of its cache folder, written after each change, opened by the next process.

The formats on disk are in `disk_cache.py`.
"""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

from akosha_assets.lake.serving.parts.part import Categories, RowRange
from akosha_assets.lake.serving.replica import disk_cache
from akosha_assets.lake.serving.replica.cache_folder import CacheFolder, CacheUnavailable
from akosha_assets.lake.serving.replica.row_conversion import RowsSetAside
from akosha_assets.lake.serving.replica.tier_replica import TierReplica
from akosha_assets.lake.serving.text import analysis
from akosha_assets.lake.serving.text.keyword_index import KeywordIndex, KeywordIndexUnavailable


class Checkpoint:
    """Writes and reopens the state in the folder of `cache`. Computes checksums of immutable files once."""

    def __init__(self, cache: CacheFolder, terms: dict[str, Categories], tiers: Mapping[str, TierReplica]):
        self.cache, self.terms, self.tiers = cache, terms, tiers
        self._keyword_sums: dict[str, int] = {}
        self._part_sums: dict[str, dict[str, int]] = {}

    @property
    def folder(self) -> Path:
        """The folder of the state."""
        return self.cache.path

    @property
    def keywords_folder(self) -> Path:
        """The folder of the keyword index, if it is on disk."""
        return self.folder / "keywords"

    def forget(self) -> None:
        """Drop all known checksums, since the folder was replaced."""
        self._keyword_sums, self._part_sums = {}, {}

    def write(self, next_row_id: int) -> None:
        """Store the state of all tiers, and delete the parts that are no longer served.

        Raises: CacheUnavailable.
        """
        with self.cache.writing():
            self._write(next_row_id)

    def _write(self, next_row_id: int) -> None:
        parts = {name: self._parts(tier) for name, tier in self.tiers.items()}
        self._part_sums = {
            str(self.tiers[name].folder / part): one["files"]
            for name, held in parts.items()
            for part, one in held.items()
        }
        unchanging = {name: value for name, value in self._keyword_sums.items() if not name.endswith(".json")}
        sums = disk_cache.checksums(self.keywords_folder, unchanging)
        self._keyword_sums = {name: value for name, value in sums.items() if not name.endswith(".lock")}
        indexed = {
            name: {
                path: (row_range.start, row_range.stop, row_range.day.isoformat())
                for path, row_range in tier.indexed.items()
            }
            for name, tier in self.tiers.items()
        }
        terms = {name: list(held.names) for name, held in self.terms.items()}
        left_out = {
            name: {path: (rows.identities, rows.reason) for path, rows in tier.set_aside.rows.items()}
            for name, tier in self.tiers.items()
        }
        state = disk_cache.CacheState(
            disk_cache.FORMAT,
            next_row_id,
            terms,
            indexed,
            parts,
            self._keyword_sums,
            left_out,
            {name: tier.unindexed_rows for name, tier in self.tiers.items()},
            analysis.VERSION,
        )
        disk_cache.write_state(self.folder, state)
        for name, tier in self.tiers.items():
            for stale in tier.folder.glob("*"):
                if stale.name not in parts[name]:
                    shutil.rmtree(stale, ignore_errors=True)

    def _parts(self, tier: TierReplica) -> dict[str, dict[str, Any]]:
        """Each part on disk by the name of its folder: day, checksums of its files, paths of its data files."""
        parts = {}
        for part in (part for held in tier.parts.values() for part in held):
            if part.folder is not None:
                sums = self._part_sums.get(str(part.folder)) or disk_cache.checksums(part.folder, {})
                paths = [
                    path
                    for path, row_range in tier.row_ranges.items()
                    if row_range.day == part.day and row_range.is_in(part)
                ]
                parts[part.folder.name] = {"day": part.day.isoformat(), "files": sums, "row_ranges": paths}
        return parts

    def reopen(self) -> tuple[KeywordIndex, int]:
        """Open what an earlier process stored: its intact parts are served.

        Returns the keyword index and the next free row id. Everything starts empty if the state or the index is
        damaged; only the keyword index if an earlier analysis split its texts. The index is in memory if the folder
        cannot be written.
        """
        state = disk_cache.read_state(self.folder)
        if state is None or not state.keywords or not disk_cache.is_sound(self.keywords_folder, state.keywords):
            return self.start_empty(), 1
        self._keyword_sums = state.keywords
        for name, names in state.terms.items():
            self.terms[name].restore(names)
        # An index by other rules would not have the words of a query.
        is_current = state.analysis == analysis.VERSION
        keywords = self._open_keywords() if is_current else self.replace_keywords()
        for name, tier in self.tiers.items():
            indexed = state.indexed[name].items()
            tier.indexed = {
                path: RowRange(start, stop, date.fromisoformat(day)) for path, (start, stop, day) in indexed
            }
            tier.unindexed_rows = state.unindexed_rows[name]
            tier.set_aside.rows = {
                path: RowsSetAside(tuple(identities), reason)
                for path, (identities, reason) in state.rows_left_out[name].items()
            }
            for part_name, stored in state.parts[name].items():
                self._reopen_part(tier, tier.folder / part_name, stored, keywords)
            if keywords.folder is None or not is_current:
                tier.reset_keywords()
        return keywords, state.next_row_id

    def start_empty(self) -> KeywordIndex:
        """Clear the folder. Returns an empty keyword index, in memory if the folder cannot be written."""
        self.forget()
        with suppress(CacheUnavailable), self.cache.writing():
            for path in self.folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return self._open_keywords()

    def replace_keywords(self) -> KeywordIndex:
        """Delete the keyword index. Returns an empty one, in memory if the folder cannot be written."""
        self._keyword_sums = {}
        with suppress(CacheUnavailable), self.cache.writing():
            if self.keywords_folder.exists():
                shutil.rmtree(self.keywords_folder)
        return self._open_keywords()

    def _open_keywords(self) -> KeywordIndex:
        if self.cache.reason is None:
            try:
                return KeywordIndex(self.keywords_folder, self.terms)
            except KeywordIndexUnavailable as error:
                self.cache.diagnose(error)
        return KeywordIndex(None, self.terms)

    def _reopen_part(self, tier: TierReplica, folder: Path, stored: dict[str, Any], keywords: KeywordIndex) -> None:
        if disk_cache.is_sound(folder, stored["files"]):
            part = disk_cache.map_part(folder, date.fromisoformat(stored["day"]))
            self._part_sums[str(part.folder)] = stored["files"]
            tier.adopt(part, stored["row_ranges"])
            return
        # Loaded again with new row ids, so that the row ids of the parts of a day ascend.
        for path in stored["row_ranges"]:
            keywords.remove(tier.indexed.pop(path).start)
