"""`docs/security.md` covers every adversary, and each test that it names exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
ADVERSARIES = ["hostile upload", "hostile caller", "hostile page", "hostile neighbour", "broken store"]


def test_every_adversary_has_a_section_with_defences_and_limits() -> None:
    sections = {part.splitlines()[0].lower(): part for part in PAGE.split("\n## ")[1:]}
    for adversary in ADVERSARIES:
        assert f"| {adversary} |" in PAGE
        (section,) = (part for title, part in sections.items() if adversary in title)
        assert "What defends it" in section and "Not defended" in section


def test_every_defence_names_tests_that_exist() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and line.count(" | ") == 2]
    paths_by_row = {line: re.findall(r"`(tests/[^`]+)`", line.rsplit(" | ", 1)[1]) for line in rows}
    defences = {line: tests for line, tests in paths_by_row.items() if "Test |" not in line and "Must not" not in line}
    assert len(defences) > 25
    for line, tests in defences.items():
        assert tests or line.split(" | ")[0].removeprefix("| ") in ADVERSARIES, line
        for test in tests:
            assert "\ndef test_" in (ROOT / test).read_text(), f"{test} holds no test"
