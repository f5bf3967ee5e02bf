"""`python -m akosha_api`: serves until SIGTERM or Ctrl-C, then finishes requests under way and exits with 0.

Only the replica is imported at first. It loads the tables while the rest is imported.
"""

import argparse
import contextlib
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING

from akosha_api.settings import ApiSettings
from akosha_assets.lake import telemetry
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.checked_settings import unread_variables
from akosha_assets.lake.errors import InvalidSettings
from akosha_assets.lake.settings import LakeSettings

if TYPE_CHECKING:
    from akosha_assets.lake.serving.replica.replica import Replica


logger = logging.getLogger(__name__)


def main() -> None:
    """Runs the service with the settings of the environment and the options. Invalid settings are one line on stderr
    and exit code 2.
    """
    try:
        settings, lake_settings = ApiSettings(), LakeSettings()
    except InvalidSettings as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    parser = argparse.ArgumentParser(prog="python -m akosha_api", description="Serve the lake over HTTP.")
    parser.add_argument("--host", default=settings.host, help="address to listen on (AKOSHA_API_HOST)")
    parser.add_argument("--port", default=settings.port, type=int, help="port to listen on (AKOSHA_API_PORT)")
    options = parser.parse_args()
    telemetry.configure_logging(lake_settings.log_format)
    for name, meant in unread_variables((LakeSettings, ApiSettings)).items():
        logger.warning("nothing reads a variable of the environment", extra={"variable": name, "suggestion": meant})
    settings = settings.model_copy(update={"host": options.host, "port": options.port})
    # A thread that returns from a scan waits this long for the interpreter lock; 5 ms, the default, add up in a search.
    sys.setswitchinterval(0.0005)
    # uvicorn drains on SIGTERM and then raises the signal again for the previous handler.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # Waiting OpenMP threads must sleep: spinning would take the core from keyword indexing. Read when OpenMP is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from akosha_assets.lake.ingestion.ledger import known_tables
    from akosha_assets.lake.serving.replica.allocator import limit_heap
    from akosha_assets.lake.serving.replica.replica import Replica

    limit_heap()
    replica = Replica(
        Lake(lake_settings),
        poll_seconds=settings.poll_seconds,
        memory_bytes=settings.memory_bytes,
        known_table=known_tables.reader(lake_settings),
    )
    replica.start()
    try:
        _serve(lake_settings, settings, replica)
    finally:
        replica.stop()


def _serve(lake_settings: LakeSettings, settings: ApiSettings, replica: "Replica") -> None:
    import uvicorn

    from akosha_api.app import create_app
    from akosha_api.server import config

    server = uvicorn.Server(config(create_app(lake_settings, settings, replica=replica), settings))
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        # uvicorn could not listen and has logged why.
        sys.exit(3)


if __name__ == "__main__":
    main()
