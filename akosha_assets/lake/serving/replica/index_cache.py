"""Vector indexes of parts in memory, cached on disk, since building them is the slowest step of a start.

The name of a file is a hash of the vectors it indexes and a checksum of its content, so that a damaged file or one of
other vectors is never used. `vector_set.py` decides what is indexed, and how.
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from akosha_assets.lake.serving.parts.part import Part
from akosha_assets.lake.serving.replica import disk_cache
from akosha_assets.lake.serving.replica.cache_folder import CacheFolder, CacheUnavailable
from akosha_assets.lake.serving.vectors.inverted_file import InvertedFile
from akosha_assets.lake.serving.vectors.merging import Segment, merge, merge_groups
from akosha_assets.lake.serving.vectors.quantizer import CoarseQuantizers
from akosha_assets.lake.serving.vectors.vector_set import VectorSet

logger = logging.getLogger(__name__)

# Smaller sets are indexed as fast as an index is read.
KEPT_ROWS = 20_000


class IndexCache:
    """The indexes of one tier's parts, in a folder of `cache`; only in memory while the folder cannot be written."""

    def __init__(self, cache: CacheFolder, tier: str):
        self.cache, self.tier = cache, tier
        self.quantizers = CoarseQuantizers()

    @property
    def folder(self) -> Path:
        """The folder of the index files."""
        return self.cache.path / "indexes" / self.tier

    def with_indexes(self, part: Part) -> Part:
        """The part with an index for each large set of vectors, read from the folder or built and stored there."""
        vectors = {space: self._indexed(space, vector_set) for space, vector_set in part.vectors.items()}
        return (
            part
            if all(vectors[space] is vector_set for space, vector_set in part.vectors.items())
            else replace(part, vectors=vectors)
        )

    def merge(self, parts: Sequence[Part]) -> list[Part]:
        """The parts, which are in memory, with their indexes merged into few inverted files."""
        segments = [
            vector_set.index for part in parts for vector_set in part.vectors.values() if vector_set.index is not None
        ]
        moved = {old: new for group in merge_groups(segments) for old, new in zip(group, merge(group), strict=True)}

        def placed(part: Part) -> Part:
            vectors = {
                space: replace(vector_set, index=moved[vector_set.index])
                for space, vector_set in part.vectors.items()
                if vector_set.index in moved
            }
            return replace(part, vectors=part.vectors | vectors) if vectors else part

        return [placed(part) for part in parts]

    def register(self, part: Part) -> None:
        """Use the quantizers of `part` for further sets of the same spaces."""
        for space, vector_set in part.vectors.items():
            if vector_set.index is not None:
                self.quantizers.register(space, vector_set.index.file.quantizer)

    def remove_stale(self, parts: Iterable[Part]) -> None:
        """Delete the index files that `parts` do not use."""
        wanted = {
            vector_set.index.name
            for part in parts
            for vector_set in part.vectors.values()
            if vector_set.index is not None
        }
        with suppress(CacheUnavailable), self.cache.writing():
            for path in self.folder.glob("*"):
                if path.name not in wanted:
                    path.unlink(missing_ok=True)

    def _indexed(self, space: str, vector_set: VectorSet) -> VectorSet:
        if vector_set.index is not None or len(vector_set) < KEPT_ROWS or vector_set.form == "sketch":
            return vector_set.with_index(space, self.quantizers)
        digest = hashlib.blake2b(f"{disk_cache.FORMAT}/{vector_set.form}".encode(), digest_size=16)
        digest.update(vector_set.matrix.data)
        name = digest.hexdigest()
        for path in self.folder.glob(f"{name}-*"):
            if (index := self._read(path)) is not None:
                self.quantizers.register(space, index.quantizer)
                return replace(vector_set, index=Segment(index, name=path.name))
        indexed = vector_set.with_index(space, self.quantizers)
        if indexed.index is None:
            return indexed
        with suppress(CacheUnavailable), self.cache.writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / f".{uuid4().hex}.part"
            try:
                indexed.index.file.write(part)
                stored = self.folder / f"{name}-{disk_cache.checksum(part):08x}"
                part.replace(stored)
            finally:
                part.unlink(missing_ok=True)
            return replace(indexed, index=replace(indexed.index, name=stored.name))
        return indexed

    def _read(self, path: Path) -> InvertedFile | None:
        """The index in a file; None if the file is damaged or missing."""
        try:
            if disk_cache.checksum(path) == int(path.name.rpartition("-")[2], 16):
                return InvertedFile.read(path, is_mapped=False)
        except (OSError, RuntimeError) as error:
            logger.warning("an index of the serving cache cannot be read", extra={"cause": str(error)})
            return None
        logger.warning("an index of the serving cache is damaged and is built again", extra={"path": str(path)})
        with suppress(CacheUnavailable), self.cache.writing():
            path.unlink(missing_ok=True)
        return None
