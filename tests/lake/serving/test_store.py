"""What of a part lies where."""

from pathlib import Path

import numpy as np

from akosha_assets.lake.serving import store
from akosha_assets.lake.serving.parts import join
from akosha_assets.lake.serving.payload import FilePayload
from tests.lake.serving.test_keywords import part_of


def test_the_payload_of_a_large_part_lies_in_a_file_without_a_name(tmp_path: Path) -> None:
    part = part_of([f"text {number}" for number in range(store.FILE_ROWS)])
    held = store.with_filed_payload(part, tmp_path)
    assert isinstance(held.payload, FilePayload)
    assert held.payload.whole().equals(part.payload.whole())
    assert list(tmp_path.iterdir()) == []
    assert store.with_filed_payload(held, tmp_path) is held
    assert not isinstance(held.kept(np.arange(len(held)) != 1).payload, FilePayload)
    assert join([held, part]).payload.value("text", len(part)) == "text 0"


def test_the_payload_of_a_small_part_stays_in_memory(tmp_path: Path) -> None:
    part = part_of(["a", "b"])
    assert store.with_filed_payload(part, tmp_path) is part
