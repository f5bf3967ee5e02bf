"""What the commands of `akosha bench` share: an option, and how they print figures."""

from pathlib import Path
from typing import Annotated, Any

import typer

from akosha_assets.cli.output import console, emit, grid

Work = Annotated[Path | None, typer.Option(help="Folder for the data of the benchmark, which is removed afterwards.")]


def print_figures(name: str, answer: dict[str, Any], *, as_json: bool) -> None:
    """Print the figures of a benchmark."""
    if as_json:
        emit(answer)
    else:
        console.print(grid(f"bench {name}", ("figure", "value"), answer.items()))
