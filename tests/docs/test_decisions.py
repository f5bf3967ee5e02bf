"""Decisions have one form, and the index lists all of them."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "decisions"
PAGES = sorted(FOLDER.glob("[0-9]*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_decision_has_its_number_a_choice_reasons_and_what_would_change_it(page: Path) -> None:
    title, *_ = page.read_text().splitlines()
    assert re.fullmatch(rf"# {page.stem[:4]} \S.*", title)
    headings = re.findall(r"^\*\*([^*]+)\.\*\*", page.read_text(), re.MULTILINE)
    assert headings[:2] == ["Choice", "Reasons"] and headings[-1] == "What would change our mind"


def test_the_index_names_every_decision_by_its_title() -> None:
    listed = dict(re.findall(r"^\| \[\d+\]\((.+?)\) \| (.+) \|$", (FOLDER / "README.md").read_text(), re.MULTILINE))
    assert listed == {page.name: page.read_text().splitlines()[0].removeprefix(f"# {page.stem[:4]} ") for page in PAGES}
