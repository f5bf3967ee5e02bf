"""What of a part lies where."""

from pathlib import Path

import numpy as np

from akosha_assets.lake.serving import store
from akosha_assets.lake.serving.parts import join
from tests.lake.serving.test_keywords import part_of


def test_the_text_of_a_large_part_is_mapped_from_a_file_without_a_name(tmp_path: Path) -> None:
    part = part_of([f"text {number}" for number in range(store.MAPPED_ROWS)])
    held = store.with_mapped_payload(part, tmp_path)
    assert held.has_mapped_payload
    assert held.payload.equals(part.payload)
    assert list(tmp_path.iterdir()) == []
    assert store.with_mapped_payload(held, tmp_path) is held
    assert not held.kept(np.arange(len(held)) != 1).has_mapped_payload
    assert join([held, part]).payload["text"][len(part)].as_py() == "text 0"


def test_the_text_of_a_small_part_stays_in_memory(tmp_path: Path) -> None:
    part = part_of(["a", "b"])
    assert store.with_mapped_payload(part, tmp_path) is part
