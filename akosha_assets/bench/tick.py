"""Measures a sensor tick on an inbox of mostly known objects, and how soon new uploads are found."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from akosha_assets.bench import runs
from akosha_assets.lake.ingestion.inbox import listing
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.settings import LakeSettings

OBJECTS_PER_UPLOAD = 3
UPLOADS_PER_SYSTEM = 100


def run(*, objects: int, new_objects: int, work: Path | None) -> dict[str, Any]:
    """Discover `new_objects` new objects, three per upload, in a folder with `objects` known ones.

    `seconds` is the longest tick, `pass_seconds` the time of all ticks of one listing, which finds every new object.
    The files are empty, because a listing does not open them.
    """
    with runs.home(work) as settings:
        ledger = Ledger.open(settings)
        _fill(settings, range(objects // OBJECTS_PER_UPLOAD))
        started = time.perf_counter()
        listing.sweep(settings, ledger, now=datetime.now(UTC), whole=True)
        first_seconds = time.perf_counter() - started
        _fill(settings, range(objects // OBJECTS_PER_UPLOAD, (objects + new_objects) // OBJECTS_PER_UPLOAD))
        ticks, added, listed = [], 0, 0
        finished = False
        while not finished:
            started = time.perf_counter()
            swept = listing.sweep(settings, ledger, now=datetime.now(UTC))
            ticks.append(time.perf_counter() - started)
            added, listed, finished = added + swept.added, listed + swept.listed, swept.finished
        ledger.close()
    return {
        "known_objects": objects,
        "new_objects": new_objects,
        "new_uploads_found": added,
        "listed": listed,
        "seconds": round(max(ticks), 3),
        "ticks": len(ticks),
        "pass_seconds": round(sum(ticks), 3),
        "first_listing_seconds": round(first_seconds, 3),
        "machine": runs.machine(),
    }


def _fill(settings: LakeSettings, uploads: range) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    inbox = settings.home / "inbox"
    inbox.mkdir(exist_ok=True)
    empty = ""
    times = [f"{start + timedelta(hours=place):%Y%m%d_%H%M%S}" for place in range(UPLOADS_PER_SYSTEM)]
    for number in uploads:
        system, place = f"system-{number // UPLOADS_PER_SYSTEM:06d}", number % UPLOADS_PER_SYSTEM
        # Strings: for a million files, creating `Path` objects takes longer than creating the files.
        system_folder = f"{inbox}/systems/{system}/uploads"
        if place == 0 or number == uploads.start:
            Path(system_folder).mkdir(parents=True, exist_ok=True)
        folder = f"{system_folder}/{times[place]}_{system}"
        Path(folder).mkdir()
        if number % 10_000 == uploads.start % 10_000:
            # A file system limits the links of a file, on ext4 to 65,000.
            empty = f"{folder}/empty.part"
            os.close(os.open(empty, os.O_CREAT | os.O_WRONLY))
        for name in ("knowledge_graph.duckdb", "reflection.duckdb", "manifest.json"):
            os.link(empty, f"{folder}/{name}")
