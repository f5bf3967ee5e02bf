"""docs/extraction.md documents every flaw and every source of a time."""

import re
from pathlib import Path

from akosha_assets.lake.ingestion.source.event_times import OCCURRED_FROM

# The ways in which the code counts a flaw: by a call, by key, or as a rule of rows.
COUNTED = (r'flaw\(\s*"(\w+)"', r'\.count\("(\w+)", [a-z]', r'flaws\["(\w+)"\]', r'\("(\w+)", _[a-z_0-9]+\)')
ROOT = Path(__file__).parents[2]


def test_every_flaw_and_every_source_of_a_time_is_explained() -> None:
    text = (ROOT / "docs" / "extraction.md").read_text(encoding="utf-8")
    sources = [
        *(ROOT / "akosha_assets" / "lake" / "ingestion" / "source").rglob("*.py"),
        *(ROOT / "akosha_assets" / "lake" / "ingestion").glob("*.py"),
        ROOT / "akosha_assets" / "lake" / "row_rules.py",
    ]
    counted = {
        code
        for path in sources
        for pattern in COUNTED
        for code in re.findall(pattern, path.read_text(encoding="utf-8"))
    }
    assert len(counted) > 12

    assert {code for code in counted | set(OCCURRED_FROM.to_pylist()) if f"`{code}`" not in text} == set()
