"""What of a part lies where."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from akosha_assets.lake.serving.parts.part import concatenate_parts
from akosha_assets.lake.serving.parts.payload import FilePayload
from akosha_assets.lake.serving.replica import disk_cache
from akosha_assets.lake.serving.vectors.quantizer import CoarseQuantizers
from tests.lake.serving.text.test_keyword_index import part_of


def test_the_payload_of_a_large_part_is_in_an_unnamed_file(tmp_path: Path) -> None:
    part = part_of([f"text {number}" for number in range(disk_cache.FILE_ROWS)])
    moved = disk_cache.move_payload_to_file(part, tmp_path)
    assert isinstance(moved.payload, FilePayload)
    assert moved.payload.whole().equals(part.payload.whole())
    assert list(tmp_path.iterdir()) == []
    assert disk_cache.move_payload_to_file(moved, tmp_path) is moved
    assert not isinstance(moved.filter(np.arange(len(moved)) != 1).payload, FilePayload)
    assert concatenate_parts([moved, part]).payload.value("text", len(part)) == "text 0"


def test_the_payload_of_a_small_part_stays_in_memory(tmp_path: Path) -> None:
    part = part_of(["a", "b"])
    assert disk_cache.move_payload_to_file(part, tmp_path) is part


def maps_of_this_process(folder: Path) -> int:
    return sum(str(folder) in line for line in Path("/proc/self/maps").read_text().splitlines())


def test_small_parts_use_no_mapping_and_large_ones_few(tmp_path: Path) -> None:
    small = [
        disk_cache.write_part(part_of(["a", "b"], first=1 + 2 * number), tmp_path, CoarseQuantizers())
        for number in range(20)
    ]
    assert maps_of_this_process(tmp_path) == 0
    large = disk_cache.write_part(
        part_of([f"text {number}" for number in range(disk_cache.MAPPED_ROWS)], first=100), tmp_path, CoarseQuantizers()
    )
    assert 1 <= maps_of_this_process(tmp_path) <= 2
    assert [part.payload.value("text", 1) for part in small] == ["b"] * 20
    assert large.row_ids.tolist() == list(range(100, 100 + disk_cache.MAPPED_ROWS))
    assert not large.row_ids.flags.writeable


def test_a_stored_state_is_read_unchanged(tmp_path: Path) -> None:
    state = disk_cache.CacheState(next_row_id=7, terms={"system_id": ["laptop-ada"]})
    disk_cache.write_state(tmp_path, state)
    assert disk_cache.read_state(tmp_path) == state


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.replace(b"laptop-ada", b"laptop-adb"),
        lambda content: content.replace(b"keywords", b"keyvords"),
        lambda content: content[:-20],
        lambda _: b"[1]",
        lambda _: b"",
        lambda _: b"\xff\xfe",
    ],
)
def test_a_damaged_state_is_ignored(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    disk_cache.write_state(tmp_path, disk_cache.CacheState(terms={"system_id": ["laptop-ada"]}))
    path = tmp_path / "state.json"
    path.write_bytes(damage(path.read_bytes()))
    assert disk_cache.read_state(tmp_path) is None


def test_a_state_of_another_version_is_ignored(tmp_path: Path) -> None:
    disk_cache.write_state(tmp_path, disk_cache.CacheState(format="1"))
    assert disk_cache.read_state(tmp_path) is None
