"""docs/extraction.md documents every flaw and every source of a time."""

from pathlib import Path

from akosha_assets.lake.flaws import Flaw
from akosha_assets.lake.ingestion.source.event_times import OCCURRED_FROM

TEXT = (Path(__file__).parents[2] / "docs" / "extraction.md").read_text(encoding="utf-8")


def test_every_flaw_and_every_source_of_a_time_is_explained() -> None:
    codes = [*Flaw, *OCCURRED_FROM.to_pylist()]
    assert [code for code in codes if f"`{code}`" not in TEXT] == []


def test_every_flaw_is_counted_somewhere() -> None:
    lake = Path(__file__).parents[2] / "akosha_assets" / "lake"
    sources = [*(lake / "ingestion").rglob("*.py"), lake / "row_rules.py"]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    assert [flaw.name for flaw in Flaw if f"Flaw.{flaw.name}" not in code] == []
