"""The ledger for commands that only read: they create nothing, so where there is none they see an empty one."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger
    from akosha_assets.lake.settings import LakeSettings


@contextmanager
def existing_ledger(settings: "LakeSettings") -> "Iterator[Ledger]":
    """The ledger of the settings; an empty one, gone afterwards, where none was made yet."""
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger

    url = settings.ledger()
    if not url.startswith("sqlite:///") or Path(url.removeprefix("sqlite:///")).exists():
        with closing(Ledger.open(settings)) as ledger:
            yield ledger
        return
    with TemporaryDirectory(prefix="akosha-empty-ledger-") as folder:
        empty = settings.model_copy(update={"ledger_url": f"sqlite:///{folder}/ledger.sqlite"})
        with closing(Ledger.open(empty)) as ledger:
            yield ledger
