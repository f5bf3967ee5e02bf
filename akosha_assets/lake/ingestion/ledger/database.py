"""The ledger's database: opens it, migrates it and runs transactions. `ledger.py` describes its content."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from akosha_assets.lake.errors import LedgerDamaged, LedgerUnavailable
from akosha_assets.lake.ingestion.ledger import schema
from akosha_assets.lake.settings import LakeSettings

# The revision of the newest migration.
HEAD = "0005"


class LedgerDatabase:
    """An open database at the newest schema version. Safe to share between threads."""

    def __init__(self, engine: sa.Engine, settings: LakeSettings):
        self.engine = engine
        self.settings = settings

    @classmethod
    def open(cls, settings: LakeSettings) -> Self:
        """Opens the ledger of the settings; creates or migrates it where needed.

        Raises:
            LedgerUnavailable: its database did not answer, is locked, read-only or full.
            LedgerDamaged: the database is not a ledger, or belongs to a later version of Akosha.
        """
        if settings.ledger().startswith("sqlite:///"):
            folder = Path(settings.ledger().removeprefix("sqlite:///")).parent
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LedgerUnavailable(settings.ledger(), f"its folder cannot be created: {error}") from error
        ledger = cls(schema.engine(settings), settings)
        ledger._migrate()
        return ledger

    def close(self) -> None:
        """Closes every connection."""
        self.engine.dispose()

    def _migrate(self) -> None:
        with self.read() as connection:
            if (
                sa.inspect(connection).has_table("alembic_version")
                and connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == HEAD
            ):
                return
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.set_main_option("path_separator", "os")
        with self.write() as connection:
            # If two processes open a new ledger at once, the second waits here until the first has migrated it.
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                url = self.engine.url.render_as_string(hide_password=True)
                raise LedgerDamaged(
                    url, f"{error}; expected a ledger of this version of Akosha or an older one"
                ) from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with schema.typed_errors(self.engine), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes. Only one runs at a time in the entire ledger: two claims exclude each other."""
        with (
            schema.typed_errors(self.engine),
            self.engine.connect().execution_options(writes=True) as connection,
            connection.begin(),
        ):
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(7266742)"))
            yield connection
