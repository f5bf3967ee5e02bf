"""Settings: where the lake, the inbox, the ledger and backups are stored."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from akosha_assets.lake.checked_settings import CheckedSettings

SCHEMES = ("file", "s3", "gs", "az")


def check_scheme(url: str) -> str:
    """`url` without a trailing slash.

    Raises:
        ValueError: it is neither a folder nor the URL of a supported object store.
    """
    scheme = urlsplit(url).scheme
    if scheme and scheme not in SCHEMES:
        raise ValueError(f"{url!r} has the scheme {scheme!r}; expected a folder or one of {', '.join(SCHEMES)}")
    return url.rstrip("/")


def resolve_url(url: str, default: Path) -> str:
    """`url` with a scheme: a folder becomes an absolute `file://` URL, an empty `url` that of `default`."""
    if not url:
        return default.as_uri()
    return url if urlsplit(url).scheme else Path(url).expanduser().absolute().as_uri()


class PlaceSettings(CheckedSettings):
    """Folders and URLs of what Akosha reads and writes."""

    home: Annotated[
        Path,
        Field(
            description=(
                "Folder of everything without an address of its own: lake, inbox, ledger, caches, Dagster's storage."
            )
        ),
    ] = Path(".akosha")
    inbox_url: Annotated[
        str,
        Field(
            description=(
                "Where the fleet uploads: a folder, `s3://`, `gs://` or `az://`. Empty: `inbox/` under the home."
            )
        ),
    ] = ""
    lake_url: Annotated[
        str,
        Field(
            description=(
                "Where the Delta tables are stored: a folder, `s3://`, `gs://` or `az://`. "
                "Empty: `lake/` under the home."
            )
        ),
    ] = ""
    ledger_url: Annotated[
        str,
        Field(
            description="SQLAlchemy URL of the ledger, SQLite or PostgreSQL. Empty: `ledger.sqlite` under the home.",
            repr=False,
        ),
    ] = ""
    ingestion_queue: Annotated[
        str,
        Field(
            description=(
                "URL of the SQS queue that receives the inbox bucket's notifications. "
                "Empty: uploads are discovered by listing alone."
            )
        ),
    ] = ""

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @field_validator("inbox_url", "lake_url")
    @classmethod
    def _check_scheme(cls, url: str) -> str:
        return check_scheme(url)

    def inbox(self) -> str:
        """URL of the inbox: `file://…`, `s3://…`, `gs://…` or `az://…`, without a trailing slash."""
        return resolve_url(self.inbox_url, self.home / "inbox")

    def lake(self) -> str:
        """URL of the folder that holds the tables by their addresses, without a trailing slash."""
        return resolve_url(self.lake_url, self.home / "lake")

    def ledger(self) -> str:
        """SQLAlchemy URL of the ledger."""
        return self.ledger_url or f"sqlite:///{self.home / 'ledger.sqlite'}"


class BackupSettings(CheckedSettings):
    """Where backups are stored, and for how long."""

    backup_url: Annotated[
        str,
        Field(
            description=(
                "Where backups are stored: a folder, `s3://`, `gs://` or `az://` outside the lake. "
                "Empty: no backups are made."
            )
        ),
    ] = ""
    backup_days: Annotated[
        int, Field(ge=1, description="Days a backup is kept; the newest is kept whatever its age.")
    ] = 30

    @field_validator("backup_url")
    @classmethod
    def _check_backup_scheme(cls, url: str) -> str:
        return check_scheme(url)
