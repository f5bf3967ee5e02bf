"""`akosha bench`: benchmarks on this machine; each prints one table, or one JSON object."""

from typing import Annotated

import typer

from akosha_assets.cli.bench_models import embed, passages, relevance
from akosha_assets.cli.bench_output import Work, print_figures
from akosha_assets.cli.output import Json, error_console

app = typer.Typer(no_args_is_help=True, help="Run benchmarks on this machine; their sizes are options.")


@app.command()
def drain(
    uploads: Annotated[int, typer.Option(min=1, help="Number of small waiting uploads.")] = 50_000,
    systems: Annotated[int, typer.Option(min=1, help="Systems that uploaded them.")] = 5_000,
    memories: Annotated[int, typer.Option(min=1, help="Memories in each system's last snapshot.")] = 20,
    distinct: Annotated[
        int, typer.Option(min=1, help="Number of different databases; the other uploads are copies.")
    ] = 50,
    work: Work = None,
    as_json: Json = False,
) -> None:
    """Measure the time from the start of an ingest process until no upload is waiting."""
    from rich.progress import Progress

    from akosha_assets.bench import drain as bench

    with Progress(console=error_console, transient=True, disable=as_json) as progress:
        bar = progress.add_task("uploading", total=uploads)
        answer = bench.run(
            uploads=uploads,
            systems=systems,
            memories=memories,
            distinct=distinct,
            work=work,
            on_upload=lambda: progress.advance(bar),
        )
    print_figures("drain", answer, as_json=as_json)


@app.command()
def ingest(
    uploads: Annotated[int, typer.Option(min=1, help="Number of large snapshots, one per system.")] = 8,
    memories: Annotated[int, typer.Option(min=1, help="Memories in each, with vectors.")] = 10_000,
    distinct: Annotated[int, typer.Option(min=1, help="Number of different databases.")] = 2,
    singles: Annotated[
        int, typer.Option(min=0, help="Small uploads timed until they are searchable; 0: do not start the services.")
    ] = 7,
    s3: Annotated[
        bool, typer.Option("--s3", help="Store single uploads in a bucket with notifications, and tables in another.")
    ] = False,
    work: Work = None,
    as_json: Json = False,
) -> None:
    """Measure rows committed per second, and seconds from upload to searchable with all services running."""
    from akosha_assets.bench import ingest as bench

    print_figures(
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
    """Measure the cost of an unchanged snapshot, and of one with 1 % changed rows, relative to its first ingestion."""
    from akosha_assets.bench import resend as bench

    print_figures("resend", bench.run(systems=systems, memories=memories, work=work), as_json=as_json)


@app.command()
def tick(
    objects: Annotated[int, typer.Option(min=3, help="Objects in the inbox that are in the ledger.")] = 1_000_000,
    new_objects: Annotated[int, typer.Option(min=3, help="Objects that are not.")] = 300,
    work: Work = None,
    as_json: Json = False,
) -> None:
    """Measure the discovery of one sensor tick in a large inbox."""
    from akosha_assets.bench import tick as bench

    print_figures("tick", bench.run(objects=objects, new_objects=new_objects, work=work), as_json=as_json)


@app.command()
def lifecycle(
    rows: Annotated[int, typer.Option(min=200, help="Rows of each event day.")] = 20_000,
    days: Annotated[
        int,
        typer.Option(
            min=1, help="Event days. 1: one due for warm; 2: and one due for cold; more: a history up to yesterday."
        ),
    ] = 2,
    embedded: Annotated[
        int, typer.Option(min=100, help="Texts that are embedded, once per home; further vectors are interpolated.")
    ] = 3_000,
    questions: Annotated[int, typer.Option(min=1, help="Held-out queries for recall.")] = 200,
    commits: Annotated[
        int, typer.Option(min=0, help="Small commits before the table is opened; 0: skip this part.")
    ] = 300,
    work: Work = None,
    as_json: Json = False,
) -> None:
    """Measure bytes per row in each tier, rows aged per second, recall@10 of warm and cold, and memory of aging."""
    from rich.progress import Progress

    from akosha_assets.bench import lifecycle as bench
    from akosha_assets.cli.output import lake_errors

    with lake_errors(), Progress(console=error_console, transient=True, disable=as_json) as progress:
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
    print_figures("lifecycle", answer, as_json=as_json)


@app.command()
def search(
    vectors: Annotated[int, typer.Option(min=1000, help="Rows of the hot table.")] = 100_000,
    queries: Annotated[int, typer.Option(min=10, help="Query vectors, of embedded texts.")] = 200,
    real: Annotated[
        int,
        typer.Option(
            min=500, help="Texts that are embedded; further vectors are interpolated between neighbours, with noise."
        ),
    ] = 6_000,
    systems: Annotated[int, typer.Option(min=1, help="Systems the rows belong to.")] = 200,
    peers: Annotated[bool, typer.Option(help="Run the same queries on LanceDB and DuckDB.")] = True,
    work: Work = None,
    as_json: Json = False,
) -> None:
    """Measure recall and latency of searches in one process, and the time to build the index."""
    from akosha_assets.bench import search as bench
    from akosha_assets.cli.output import lake_errors

    with lake_errors(), error_console.status("starting") as status:
        answer = bench.run(
            vectors=vectors, queries=queries, real=real, peers=peers, systems=systems, work=work, say=status.update
        )
    print_figures("search", answer, as_json=as_json)


@app.command()
def serve(
    vectors: Annotated[int, typer.Option(min=1000, help="Rows of the hot table.")] = 100_000,
    clients: Annotated[int, typer.Option(min=1, help="Concurrent clients.")] = 8,
    requests: Annotated[
        int, typer.Option(min=8, help="Requests of all clients together, for each kind of query.")
    ] = 2_000,
    real: Annotated[
        int,
        typer.Option(
            min=500, help="Texts that are embedded; further vectors are interpolated between neighbours, with noise."
        ),
    ] = 6_000,
    systems: Annotated[int, typer.Option(min=1, help="Systems the rows belong to.")] = 200,
    seconds: Annotated[
        int,
        typer.Option(min=0, help="Seconds of a mixed load with commits, to measure memory growth; 0: skip this part."),
    ] = 0,
    work: Work = None,
    as_json: Json = False,
) -> None:
    """Measure latency over HTTP with many clients, cold start and memory of the service."""
    from akosha_assets.bench import serve as bench
    from akosha_assets.cli.output import lake_errors

    with lake_errors(), error_console.status("starting") as status:
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
    print_figures("serve", answer, as_json=as_json)


@app.command()
def tiers(
    warm: Annotated[int, typer.Option(min=0, help="Rows of the warm table; 0: skip this part.")] = 200_000,
    warm_days: Annotated[int, typer.Option(min=1, help="Event days of these rows.")] = 83,
    cold: Annotated[int, typer.Option(min=0, help="Rows of the cold table; 0: skip this part.")] = 300_000,
    cold_days: Annotated[int, typer.Option(min=1, help="Event days of these rows.")] = 30,
    fresh: Annotated[
        int, typer.Option(min=0, help="Rows of the hot table before new ones are committed; 0: skip this part.")
    ] = 50_000,
    fresh_seconds: Annotated[int, typer.Option(min=1, help="Number of commits, one per second.")] = 20,
    queries: Annotated[int, typer.Option(min=10, help="Query vectors, of embedded texts.")] = 100,
    real: Annotated[
        int,
        typer.Option(
            min=200, help="Texts that are embedded; further vectors are interpolated between neighbours, with noise."
        ),
    ] = 6_000,
    words: Annotated[
        bool, typer.Option(help="Build the keyword index too. Without it, warm and cold are searched by meaning only.")
    ] = True,
    work: Work = None,
    as_json: Json = False,
) -> None:
    """Measure recall and latency over warm and over cold, and seconds from a commit until its rows are found."""
    from akosha_assets.bench import tiers as bench
    from akosha_assets.cli.output import lake_errors

    with lake_errors(), error_console.status("starting") as status:
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
    print_figures("tiers", answer, as_json=as_json)


for _command in (relevance, embed, passages):
    app.command()(_command)
