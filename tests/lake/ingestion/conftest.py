"""Fixtures of ingestion: the ledger's database, once SQLite and once a real PostgreSQL."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.postgres import postgresql


@pytest.fixture(scope="module")
def postgresql_url() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="akosha-pg-") as folder, postgresql(Path(folder)) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    """The URL of a new ledger; empty for SQLite in the home folder."""
    if request.param == "sqlite":
        return ""
    url: str = request.getfixturevalue("postgresql_url")
    with sa.create_engine(url).begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
    return url
