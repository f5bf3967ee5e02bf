"""Builds real uploads: real DuckDB files and a real manifest, as Session-Buddy writes them, from rows given as dicts."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from random import Random
from typing import Any

from akosha_assets.fleet import rows
from akosha_assets.fleet.databases import Renderer
from akosha_assets.fleet.upload import UploadedSnapshot, write_upload
from akosha_assets.lake.objects import ObjectStore

Row = dict[str, Any]

AT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def make_upload(
    inbox: Path,
    system_id: str,
    *,
    conversations: Iterable[str | Row] = (),
    reflections: Iterable[str | Row] = (),
    at: datetime = AT,
    zone: tzinfo = UTC,
    project: str = "atlas-api",
    others: Mapping[str, list[Row]] | None = None,
) -> UploadedSnapshot:
    """The inbox holds an upload of `system_id` made at `at`.

    A conversation or reflection is its text, or a dict whose columns (`content` among them) override the defaults; a
    row lies one minute before `at` per place from the end. `others` are rows of further tables, `conversations` and
    `reflections` (the older tables) and `kg_entities` included, given in full. Ids depend on text and time alone.
    """
    rng = Random(f"{system_id}/{at.isoformat()}")
    talked, noted = list(conversations), list(reflections)
    tables = dict(others or {})
    if talked:
        tables["conversations_v2"] = [
            _filled(row, rows.conversation(_text(row), at=when, zone=zone, project=project))
            for row, when in _spread(talked, at)
        ]
    if noted:
        tables["reflections_v2"] = [
            _filled(row, rows.reflection(_text(row), at=when, zone=zone, project=project, rng=rng))
            for row, when in _spread(noted, at)
        ]
    with Renderer() as renderer:
        return write_upload(ObjectStore(inbox.as_uri()), system_id, tables, at=at, renderer=renderer)


def _spread(given: list[str | Row], at: datetime) -> list[tuple[str | Row, datetime]]:
    return [(row, at - timedelta(minutes=len(given) - place)) for place, row in enumerate(given)]


def _text(row: str | Row) -> str:
    return row if isinstance(row, str) else row["content"]


def _filled(row: str | Row, defaults: Row) -> Row:
    return defaults if isinstance(row, str) else defaults | row
