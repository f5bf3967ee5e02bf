"""The house keeps its form: module length, charters, plain package files."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINES = 300


def modules() -> list[Path]:
    return sorted(path for package in ("akosha_assets", "akosha_api") for path in (ROOT / package).rglob("*.py"))


def test_no_module_is_longer_than_three_hundred_lines() -> None:
    long = {str(path.relative_to(ROOT)): count for path in modules() if (count := len(path.read_text().splitlines())) > LINES}
    assert long == {}, "split by noun"


def test_every_module_opens_with_its_charter() -> None:
    without = [
        str(path.relative_to(ROOT))
        for path in modules()
        if path.name != "__init__.py" and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert without == []


def test_package_files_hold_a_docstring_and_nothing_else() -> None:
    for path in modules():
        if path.name == "__init__.py":
            body = ast.parse(path.read_text()).body
            assert all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body), path


def test_defs_evaluate_their_annotations() -> None:
    for path in (ROOT / "akosha_assets/defs").rglob("*.py"):
        assert "from __future__ import annotations" not in path.read_text(), f"{path}: Dagster's decorators cannot read them"
