"""`akosha metrics`: serves the metrics of the lake where no API runs, or prints them once."""

import signal
import threading
from typing import Annotated

import typer

from akosha_assets.cli.ledgers import follow_ledger
from akosha_assets.cli.output import Exit, console, fail, lake_errors


def metrics(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port that Prometheus scrapes; 0: the system chooses one.")
    ] = 8685,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    once: Annotated[bool, typer.Option("--once", help="Print the metrics and end.")] = False,
) -> None:
    """Serve metrics of the ledger, the tables and Dagster to Prometheus until Ctrl-C or SIGTERM.

    Exit status 0: stopped by a signal, or printed; 3: the port is in use, or the ledger did not answer at the start.
    """
    from prometheus_client import CollectorRegistry, generate_latest, start_http_server

    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.settings import LakeSettings
    from akosha_assets.lake.watch.metrics import IngestionCollector

    settings = LakeSettings()
    with lake_errors(), follow_ledger(settings) as ledger:
        registry = CollectorRegistry()
        registry.register(IngestionCollector(Lake(settings), ledger))
        if once:
            typer.echo(generate_latest(registry).decode(), nl=False)
            return
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        try:
            server, thread = start_http_server(port, host, registry)
        except OSError as error:
            raise fail(
                f"port {port} cannot be used: {error.strerror}. Choose another with --port.", Exit.UNAVAILABLE
            ) from error
        console.print(f"http://{host}:{server.server_port}/metrics", highlight=False)
        stop.wait()
        server.shutdown()
        thread.join()
