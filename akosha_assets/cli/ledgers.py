"""Opens the ledger for commands. Commands that only read create nothing: without a ledger they read an empty one."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger
    from akosha_assets.lake.settings import LakeSettings


def has_ledger(settings: "LakeSettings") -> bool:
    """Whether the ledger is on a server, or its file exists."""
    url = settings.ledger()
    return not url.startswith("sqlite:///") or Path(url.removeprefix("sqlite:///")).exists()


@contextmanager
def open_ledger(settings: "LakeSettings", *, create: bool) -> "Iterator[Ledger]":
    """The ledger of the settings. Where it does not exist, it is created, or an empty temporary one stands in for it.

    Raises:
        LedgerUnavailable: its database did not answer, is locked, read-only or full.
        LedgerDamaged: the file is no ledger, or one of another version.
    """
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger

    if create or has_ledger(settings):
        with closing(Ledger.open(settings)) as ledger:
            yield ledger
        return
    with TemporaryDirectory(prefix="akosha-empty-ledger-") as folder:
        empty = settings.model_copy(update={"ledger_url": f"sqlite:///{folder}/ledger.sqlite"})
        with closing(Ledger.open(empty)) as ledger:
            yield ledger


@contextmanager
def follow_ledger(settings: "LakeSettings") -> "Iterator[Callable[[], Ledger]]":
    """A function that returns the ledger of the settings, and an empty one until another process has created it.

    Raises:
        LedgerUnavailable, LedgerDamaged: as `open_ledger`; the function that is returned raises them as well.
    """
    with ExitStack() as stack:
        existed = has_ledger(settings)
        ledger = stack.enter_context(open_ledger(settings, create=False))

        def current() -> "Ledger":
            nonlocal existed, ledger
            if not existed and has_ledger(settings):
                ledger = stack.enter_context(open_ledger(settings, create=False))
                existed = True
            return ledger

        yield current
