"""Indexes of parts in memory outlive the process, as long as they are of the very vectors and undamaged."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from akosha_assets.lake.serving.parts.part import CODED, Part
from akosha_assets.lake.serving.parts.payload import Payload
from akosha_assets.lake.serving.replica import index_cache
from akosha_assets.lake.serving.replica.cache_folder import CacheFolder
from akosha_assets.lake.serving.replica.index_cache import IndexCache
from akosha_assets.lake.serving.vectors.nearest import nearest
from akosha_assets.lake.serving.vectors.vector_set import VectorSet
from tests.hot_rows import NOW

ROWS = 3000


@pytest.fixture(autouse=True)
def few_rows_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_cache, "KEPT_ROWS", ROWS)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[CacheFolder]:
    folder = CacheFolder(tmp_path)
    yield folder
    folder.release()


def folder_of(cache: CacheFolder) -> Path:
    return cache.path / "indexes" / "hot"


def part(seed: int = 0) -> Part:
    rows = np.random.default_rng(seed).normal(size=(ROWS, 64)).astype(np.float32)
    matrix = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    zeros = np.zeros(ROWS, np.int64)
    codes = {name: zeros.astype(np.int32) for name in CODED}
    vectors = {"space": VectorSet(np.arange(ROWS, dtype=np.int32), matrix)}
    hashes = zeros.astype(np.uint64)
    return Part(
        day=NOW.date(),
        row_ids=np.arange(ROWS),
        identity=hashes,
        content=hashes,
        written=hashes,
        codes=codes,
        occurred_us=zeros,
        arrived_us=zeros,
        importance=zeros.astype(np.float32),
        coverage=zeros.astype(np.uint8),
        payload=Payload(pa.table({})),
        vectors=vectors,
    )


def test_a_stored_index_of_the_same_vectors_is_read(cache: CacheFolder) -> None:
    first = IndexCache(cache, "hot").with_indexes(part())
    (path,) = folder_of(cache).iterdir()
    written_at = path.stat().st_mtime_ns
    second = IndexCache(cache, "hot").with_indexes(part())
    question = second.vectors["space"].floats(slice(5, 6))[0]
    found = [nearest([(each.vectors["space"], None)], question, 20)[1].tolist() for each in (first, second)]
    assert found[0] == found[1]
    assert 5 in found[0]
    assert [path.stat().st_mtime_ns for path in folder_of(cache).iterdir()] == [written_at]


def test_an_index_of_other_vectors_is_ignored(cache: CacheFolder) -> None:
    indexes = IndexCache(cache, "hot")
    indexes.with_indexes(part(0))
    other = indexes.with_indexes(part(1))
    assert len(list(folder_of(cache).iterdir())) == 2
    indexes.remove_stale([other])
    assert len(list(folder_of(cache).iterdir())) == 1
    taken = list(folder_of(cache).iterdir())
    assert indexes.with_indexes(part(1)).vectors.keys() == other.vectors.keys()
    assert list(folder_of(cache).iterdir()) == taken


def test_a_damaged_index_is_rebuilt(cache: CacheFolder) -> None:
    IndexCache(cache, "hot").with_indexes(part())
    (path,) = folder_of(cache).iterdir()
    sound = path.read_bytes()
    path.write_bytes(sound[:-100] + bytes(100))
    again = IndexCache(cache, "hot").with_indexes(part())
    assert again.vectors["space"].index is not None
    (path,) = folder_of(cache).iterdir()
    assert len(path.read_bytes()) == len(sound)


def test_indexes_of_parts_in_memory_share_a_file_and_are_stored_separately(cache: CacheFolder) -> None:
    indexes = IndexCache(cache, "hot")
    together = indexes.merge([indexes.with_indexes(part(seed)) for seed in (0, 1)])
    segments = [each.vectors["space"].index for each in together]
    assert {segment.set_id for segment in segments if segment is not None} == {0, 1}
    assert len({segment and segment.file for segment in segments}) == 1
    indexes.remove_stale(together)
    names = {segment.name for segment in segments if segment is not None}
    assert {path.name for path in folder_of(cache).iterdir()} == names and len(names) == 2
    assert indexes.merge(together) == together
