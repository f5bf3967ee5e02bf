"""`akosha bench …`: measures the product on this machine and prints one object per benchmark."""

from pathlib import Path
from typing import Annotated, Any

import typer

from akosha_assets.cli.output import Json, console, emit, errors, grid

app = typer.Typer(no_args_is_help=True, help="Measure this machine: sizes are options, so that a small run is quick.")

Work = Annotated[Path | None, typer.Option(help="Folder to work in; the data of a benchmark is removed afterwards.")]


@app.command()
def drain(
    uploads: Annotated[int, typer.Option(min=1, help="Small uploads that wait.")] = 50_000,
    systems: Annotated[int, typer.Option(min=1, help="Systems that sent them.")] = 5_000,
    memories: Annotated[int, typer.Option(min=1, help="Memories in each system's last snapshot.")] = 20,
    distinct: Annotated[
        int, typer.Option(min=1, help="Databases that are really different; the others reuse their bytes.")
    ] = 50,
    work: Work = None,
    as_json: Json = False,
) -> None:
    """Time from the start of an ingest process until nothing waits any more."""
    from rich.progress import Progress

    from akosha_assets.bench import drain as bench

    with Progress(console=errors, transient=True, disable=as_json) as progress:
        bar = progress.add_task("uploading", total=uploads)
        answer = bench.run(
            uploads=uploads,
            systems=systems,
            memories=memories,
            distinct=distinct,
            work=work,
            on_upload=lambda: progress.advance(bar),
        )
    show("drain", answer, as_json=as_json)


@app.command()
def ingest(
    uploads: Annotated[int, typer.Option(min=1, help="Large snapshots, one of each system.")] = 8,
    memories: Annotated[int, typer.Option(min=1, help="Memories in each, with vectors.")] = 10_000,
    distinct: Annotated[int, typer.Option(min=1, help="Databases that are really different.")] = 2,
    singles: Annotated[
        int, typer.Option(min=0, help="Small uploads timed until they can be found; 0: do not start the services.")
    ] = 7,
    s3: Annotated[
        bool, typer.Option("--s3", help="Single uploads go to a bucket with notifications, rows to another.")
    ] = False,
    work: Work = None,
    as_json: Json = False,
) -> None:
    """Rows a second from inbox to committed, and seconds from upload to searchable with all services running."""
    from akosha_assets.bench import ingest as bench

    show(
        "ingest",
        bench.run(uploads=uploads, memories=memories, distinct=distinct, singles=singles, s3=s3, work=work),
        as_json=as_json,
    )


@app.command()
def resend(
    systems: Annotated[int, typer.Option(min=1, help="Systems that send the snapshot.")] = 2,
    memories: Annotated[int, typer.Option(min=1, help="Memories in the snapshot.")] = 5_000,
    work: Work = None,
    as_json: Json = False,
) -> None:
    """Cost of an unchanged snapshot, and of one with 1 % changed rows, as a share of its first ingestion."""
    from akosha_assets.bench import resend as bench

    show("resend", bench.run(systems=systems, memories=memories, work=work), as_json=as_json)


@app.command()
def tick(
    objects: Annotated[int, typer.Option(min=3, help="Objects in the inbox that are known.")] = 1_000_000,
    new_objects: Annotated[int, typer.Option(min=3, help="Objects that came since.")] = 300,
    work: Work = None,
    as_json: Json = False,
) -> None:
    """A sensor tick's discovery with a large inbox that is known already."""
    from akosha_assets.bench import tick as bench

    show("tick", bench.run(objects=objects, new_objects=new_objects, work=work), as_json=as_json)


@app.command()
def lifecycle(
    rows: Annotated[int, typer.Option(min=200, help="Rows of each event day.")] = 20_000,
    days: Annotated[
        int,
        typer.Option(min=1, help="Event days. 1: one for warm; 2: and one for cold; more: a history up to yesterday."),
    ] = 2,
    embedded: Annotated[
        int, typer.Option(min=100, help="Real vectors that are made, once for a home; further ones lie between them.")
    ] = 3_000,
    questions: Annotated[int, typer.Option(min=1, help="Held-out questions that recall is measured with.")] = 200,
    commits: Annotated[
        int, typer.Option(min=0, help="Small commits whose table is then opened; 0: leave that out.")
    ] = 300,
    work: Work = None,
    as_json: Json = False,
) -> None:
    """Bytes a row in each tier, rows aged a second, recall@10 of warm and cold, peak memory of `akosha age --once`."""
    from rich.progress import Progress

    from akosha_assets.bench import lifecycle as bench
    from akosha_assets.cli.output import lake_errors

    with lake_errors(), Progress(console=errors, transient=True, disable=as_json) as progress:
        bar = progress.add_task("storing days", total=days)
        answer = bench.run(
            rows=rows,
            days=days,
            embedded=embedded,
            questions=questions,
            commits=commits,
            work=work,
            on_day=lambda: progress.advance(bar),
        )
    show("lifecycle", answer, as_json=as_json)


@app.command()
def search(
    vectors: Annotated[int, typer.Option(min=1000, help="Rows of the hot table.")] = 100_000,
    queries: Annotated[int, typer.Option(min=10, help="Real vectors asked with.")] = 200,
    real: Annotated[
        int, typer.Option(min=500, help="Real texts embedded; further vectors lie between neighbours, with noise.")
    ] = 6_000,
    systems: Annotated[int, typer.Option(min=1, help="Systems the rows belong to.")] = 200,
    peers: Annotated[bool, typer.Option(help="Ask LanceDB and DuckDB the same.")] = True,
    work: Work = None,
    as_json: Json = False,
) -> None:
    """Recall and latency of searches in one process, and how fast the index is built."""
    from akosha_assets.bench import search as bench
    from akosha_assets.cli.output import lake_errors

    with lake_errors(), errors.status("starting") as status:
        answer = bench.run(
            vectors=vectors, queries=queries, real=real, peers=peers, systems=systems, work=work, say=status.update
        )
    show("search", answer, as_json=as_json)


@app.command()
def serve(
    vectors: Annotated[int, typer.Option(min=1000, help="Rows of the hot table.")] = 100_000,
    clients: Annotated[int, typer.Option(min=1, help="Clients that ask at the same time.")] = 8,
    requests: Annotated[int, typer.Option(min=8, help="Questions of all clients together, of each kind.")] = 2_000,
    real: Annotated[
        int, typer.Option(min=500, help="Real texts embedded; further vectors lie between neighbours, with noise.")
    ] = 6_000,
    systems: Annotated[int, typer.Option(min=1, help="Systems the rows belong to.")] = 200,
    seconds: Annotated[
        int, typer.Option(min=0, help="Seconds of a mixed load with commits, for growth of memory; 0: leave it out.")
    ] = 0,
    work: Work = None,
    as_json: Json = False,
) -> None:
    """Latency over HTTP with many clients, cold start and memory of the service."""
    from akosha_assets.bench import serve as bench
    from akosha_assets.cli.output import lake_errors

    with lake_errors(), errors.status("starting") as status:
        answer = bench.run(
            vectors=vectors,
            clients=clients,
            requests=requests,
            real=real,
            systems=systems,
            seconds=seconds,
            work=work,
            say=status.update,
        )
    show("serve", answer, as_json=as_json)


@app.command()
def tiers(
    warm: Annotated[int, typer.Option(min=0, help="Rows of the warm table; 0: leave it out.")] = 200_000,
    warm_days: Annotated[int, typer.Option(min=1, help="Days they are spread over.")] = 83,
    cold: Annotated[int, typer.Option(min=0, help="Rows of the cold table; 0: leave it out.")] = 300_000,
    cold_days: Annotated[int, typer.Option(min=1, help="Days they are spread over.")] = 30,
    fresh: Annotated[
        int, typer.Option(min=0, help="Rows of the hot table that new ones are committed onto; 0: leave it out.")
    ] = 50_000,
    fresh_seconds: Annotated[int, typer.Option(min=1, help="Commits, one a second.")] = 20,
    queries: Annotated[int, typer.Option(min=10, help="Real vectors asked with.")] = 100,
    real: Annotated[
        int, typer.Option(min=200, help="Real texts embedded; further vectors lie between neighbours, with noise.")
    ] = 6_000,
    words: Annotated[
        bool, typer.Option(help="Index words too; without, warm and cold are asked by meaning alone.")
    ] = True,
    work: Work = None,
    as_json: Json = False,
) -> None:
    """Recall and latency over warm and over cold, and seconds from a commit until its rows are found."""
    from akosha_assets.bench import tiers as bench
    from akosha_assets.cli.output import lake_errors

    with lake_errors(), errors.status("starting") as status:
        answer = bench.run(
            warm=warm,
            warm_days=warm_days,
            cold=cold,
            cold_days=cold_days,
            fresh=fresh,
            fresh_seconds=fresh_seconds,
            queries=queries,
            real=real,
            words=words,
            work=work,
            say=status.update,
        )
    show("tiers", answer, as_json=as_json)


@app.command()
def relevance(
    systems: Annotated[int, typer.Option(min=1, help="Simulated systems whose memories are searched.")] = 30,
    memories: Annotated[int, typer.Option(min=1, help="Memories of each.")] = 40,
    queries: Annotated[int, typer.Option(min=1, help="Judged queries at most.")] = 500,
    sweep: Annotated[bool, typer.Option(help="Print hybrid for other weights and constants too.")] = False,
    work: Work = None,
    as_json: Json = False,
) -> None:
    """How good the results of each way of ranking are, by the judged queries of the simulated fleet."""
    from akosha_assets.bench import relevance as bench
    from akosha_assets.cli.output import lake_errors

    with lake_errors(), errors.status("embedding and asking"):
        answer = bench.run(systems=systems, memories=memories, queries=queries, sweep=sweep, work=work)
    show("relevance", answer, as_json=as_json)


def show(name: str, answer: dict[str, Any], *, as_json: bool) -> None:
    """The answer of a benchmark is printed."""
    if as_json:
        emit(answer)
    else:
        console.print(grid(f"bench {name}", ("figure", "value"), answer.items()))
