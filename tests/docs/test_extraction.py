"""docs/extraction.md against the code it speaks of."""

import re
from pathlib import Path

from akosha_assets.lake.ingestion.source.event_times import OCCURRED_FROM

ROOT = Path(__file__).parents[2]


def test_every_flaw_and_every_source_of_a_time_is_explained() -> None:
    text = (ROOT / "docs" / "extraction.md").read_text(encoding="utf-8")
    sources = (ROOT / "akosha_assets" / "lake" / "ingestion").glob("*.py")
    counted = {code for path in sources for code in re.findall(r'flaws\["(\w+)"\]', path.read_text(encoding="utf-8"))}

    assert {code for code in counted | set(OCCURRED_FROM.to_pylist()) if f"`{code}`" not in text} == set()
