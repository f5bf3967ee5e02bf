"""The docs agree with the code."""

import re
from pathlib import Path

import pytest

from akosha_api.settings import ApiSettings
from akosha_assets.lake.reasons import REASONS
from akosha_assets.lake.schemas import TABLES
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.reference import regenerate

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_generated_passages_are_current(page: Path) -> None:
    assert page.read_text() == regenerate(page.read_text()), "run `make docs`"


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs/settings.md").read_text()
    names = [f"AKOSHA_{name.upper()}" for name in LakeSettings.model_fields]
    names += [f"AKOSHA_API_{name.upper()}" for name in ApiSettings.model_fields]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_table_and_every_reason_is_documented() -> None:
    tables, errors = (ROOT / "docs/tables.md").read_text(), (ROOT / "docs/errors.md").read_text()
    assert [address for address in TABLES if f"columns of {address} -->" not in tables] == []
    assert [reason for reason in REASONS if f"`{reason}`" not in errors] == []


def test_links_between_pages_are_not_broken() -> None:
    for page in [ROOT / "README.md", *PAGES]:
        broken = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
        assert not broken, f"{page.relative_to(ROOT)}: {broken}"
