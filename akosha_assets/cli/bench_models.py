"""The benchmarks that need the embedding model: `akosha bench relevance`, `embed` and `passages`."""

from pathlib import Path
from typing import Annotated

import typer

from akosha_assets.cli.bench_output import Work, print_figures
from akosha_assets.cli.output import Json, console, error_console, grid


def relevance(
    systems: Annotated[int, typer.Option(min=1, help="Simulated systems whose memories are searched.")] = 30,
    memories: Annotated[int, typer.Option(min=1, help="Memories of each.")] = 40,
    queries: Annotated[int, typer.Option(min=1, help="Maximum number of judged queries.")] = 500,
    sets: Annotated[
        list[Path] | None,
        typer.Option("--set", help="Folder with sessions.json and questions.json to measure too. Repeatable."),
    ] = None,
    sweep: Annotated[bool, typer.Option(help="Also print every other way to fuse the two rankings.")] = False,
    work: Work = None,
    as_json: Json = False,
) -> None:
    """Measure each ranking with judged questions: of the simulated fleet and of folders."""
    from akosha_assets.bench import relevance as bench
    from akosha_assets.cli.output import lake_errors

    with lake_errors(), error_console.status("embedding and searching"):
        answer = bench.run(systems=systems, memories=memories, queries=queries, sets=sets or [], sweep=sweep, work=work)
    if not as_json:
        for name, figures in answer["sets"].items():
            rows = [(figure, *values.values()) for figure, values in figures.items() if figure in bench.FIGURES]
            shares = figures["close"].values()
            rows += [(kind, *(of_mode[kind] for of_mode in shares)) for kind in figures["close"]["hybrid"]]
            console.print(grid(f"{name}: {figures['questions']} questions", ("figure", *bench.MODES), rows))
        answer = {name: value for name, value in answer.items() if name != "sets"}
    print_figures("relevance", answer, as_json=as_json)


def embed(
    texts: Annotated[int, typer.Option(min=1, help="Texts of each length.")] = 64,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Texts embedded at the same time; default: as many as cores.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure embedded texts per second by length, and the worst cosine of a vector alone and among other texts."""
    from akosha_assets.bench import embed as bench
    from akosha_assets.cli.output import lake_errors

    with lake_errors(), error_console.status("embedding"):
        answer = bench.run(texts=texts, threads=threads)
    print_figures("embed", answer, as_json=as_json)


def passages(
    characters: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Length of a memory; may be repeated. Default: 1,000, 4,000, 16,000 and 64,000."),
    ] = None,
    work: Work = None,
    as_json: Json = False,
) -> None:
    """Measure what a long memory costs: vectors, time of the model, bytes in each tier and in the service."""
    from akosha_assets.bench import passages as bench
    from akosha_assets.cli.output import lake_errors

    with lake_errors(), error_console.status("embedding"):
        answer = bench.run(characters=characters or [1_000, 4_000, 16_000, 64_000], work=work)
    print_figures("passages", answer, as_json=as_json)
