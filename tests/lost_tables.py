"""Lakes in a folder or a bucket whose tables lose their log, their newest commit or everything."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion import arrivals
from akosha_assets.lake.ingestion.inbox import listing
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.settings import LakeSettings
from tests.bucket import bucket

# Damages the table at an address.
Loss = Callable[[Lake, str], None]


@contextmanager
def copied(template: Path, home: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    """The lake of the home `template`, copied to `home`; its tables are in a bucket if `place` is "bucket"."""
    shutil.copytree(template, home)
    if place == "folder":
        yield Lake(LakeSettings(home=home, workers=1))
        return
    with bucket("lost", monkeypatch) as url:
        source, target = ObjectStore((home / "lake").as_uri()), ObjectStore(f"{url}/lake")
        for item in source.list():
            target.put(item.key, source.read(item.key, max_bytes=1 << 30))
        yield Lake(LakeSettings(home=home, lake_url=target.url, workers=1))


def take_in(lake: Lake) -> None:
    with closing(Ledger.open(lake.settings)) as ledger:
        listing.sweep(lake.settings, ledger, now=datetime.now(UTC), whole=True)
        arrivals.ingest(lake, ledger, run_id="test")


def keys(lake: Lake, address: str) -> list[str]:
    return [one.key for one in ObjectStore(f"{lake.settings.lake()}/{address}").list()]


def remove(lake: Lake, address: str, prefix: str = "") -> None:
    store = ObjectStore(f"{lake.settings.lake()}/{address}")
    for key in [key for key in keys(lake, address) if key.startswith(prefix)]:
        store.delete(key)
    if store.folder is not None:
        shutil.rmtree(store.folder / prefix, ignore_errors=True)


def remove_log(lake: Lake, address: str) -> None:
    remove(lake, address, "_delta_log")


def remove_newest_commit(lake: Lake, address: str) -> None:
    """Removes the newest commit from the log."""
    table = lake.open(address)
    assert table is not None and table.version() > 0
    ObjectStore(f"{lake.settings.lake()}/{address}").delete(f"_delta_log/{table.version():020d}.json")
