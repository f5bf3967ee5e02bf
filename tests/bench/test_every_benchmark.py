"""No benchmark without a test that runs it."""

from pathlib import Path

import pytest
import typer

from akosha_assets.bench import tick
from akosha_assets.cli import bench, bench_output

FOLDER = Path(__file__).parent


@pytest.mark.parametrize("name", sorted(typer.main.get_group(bench.app).commands))
def test_every_benchmark_of_the_command_line_runs_in_some_test(name: str) -> None:
    tests = "".join(path.read_text() for path in FOLDER.glob("test_*_benchmark*.py"))
    assert f" {name}.run(" in tests


def test_a_benchmark_prints_one_json_object(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    bench_output.print_figures("tick", tick.run(objects=6, new_objects=3, work=home), as_json=True)
    assert capsys.readouterr().out.lstrip().startswith("{")
