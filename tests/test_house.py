"""Rules of the code base: module length, docstrings, names, package files."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINES = 300
# Modules that are still to be split, with their present bound.
LONGER: dict[str, int] = {}


def modules() -> list[Path]:
    return sorted(path for package in ("akosha_assets", "akosha_api") for path in (ROOT / package).rglob("*.py"))


def test_no_module_is_longer_than_three_hundred_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in modules()
        if (count := len(path.read_text().splitlines())) > LONGER.get(str(path.relative_to(ROOT)), LINES)
    }
    assert long == {}, "split by noun"


def test_every_module_has_a_docstring() -> None:
    without = [
        str(path.relative_to(ROOT))
        for path in modules()
        if path.name != "__init__.py" and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert without == []


# Retired names, and the present ones.
RETIRED = {
    "departed": "removed_rows",
    "Departed": "RemovedRows",
    "lifeline": "reaper",
    "belonging": "ledger_rebuild",
    "left_by": "record_batch",
    "give_back": "release, trim_heap",
    "hold_little": "limit_heap",
    "laid_down": "write_part",
    "demanded": "ParsedQuery.required",
    "to_join": "merge_groups",
    "likeliest": "probe",
    "middles": "pca_centroids",
    "neighbours": "nearest",
    "silent_for": "down_for",
    "look_and_tell": "evaluate_and_notify",
    "KnownSystems": "SystemStates",
    "Intake": "BatchIngest",
    "ReadApart": "RetryIndividually",
    "Complaint": "RateLimitedWarning",
    "Gate": "RequestMiddleware",
    "Watched": "RequestMetrics",
    "Layouts": "CoarseQuantizers",
    "is_cut": "is_truncated",
    "why": "reason",
    "told": "clean_cause, json_value, already_shown, …",
    "Past": "TimeTravel",
    "Tail": "TierReplica",
    "Terms": "Categories",
    "meeting": "filter_ranking",
    "spaced": "fold_and_bigram",
    "beginning": "stem_prefix",
    "Known": "RowBaseline",
    "silence": "outage",
    "trail": "upload_tracing",
    "interruption": "shutdown",
    "Serving": "AppState",
    "watcher": "alert_loop",
    "prober": "recall_monitor",
    "populations": "day_rows",
    "renewal": "reprocessing",
    "masked": "mask_secrets",
    "spanned": "record_span",
    "look_after": "restart_dead_services",
    "existing_ledger": "open_ledger",
}


def test_no_retired_name_is_defined() -> None:
    found = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            defined = [node.name] if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) else []
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                defined.append(node.target.id)
            found += [f"{path.relative_to(ROOT)}: {name}, now {RETIRED[name]}" for name in defined if name in RETIRED]
        if path.stem in RETIRED:
            found.append(f"{path.relative_to(ROOT)}: now {RETIRED[path.stem]}")
    assert found == []


def test_no_two_classes_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_package_files_hold_a_docstring_and_nothing_else() -> None:
    for path in modules():
        if path.name == "__init__.py":
            body = ast.parse(path.read_text()).body
            assert all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body), path


def test_defs_evaluate_their_annotations() -> None:
    for path in (ROOT / "akosha_assets/defs").rglob("*.py"):
        assert "from __future__ import annotations" not in path.read_text(), (
            f"{path}: Dagster's decorators cannot read them"
        )


def test_the_time_zone_of_duckdb_is_set_in_one_place() -> None:
    places = [str(path.relative_to(ROOT)) for path in modules() if "SET TimeZone" in path.read_text()]
    assert places == ["akosha_assets/lake/duckdb_session.py"]
