"""Makes uploads from rows as dicts: DuckDB files and a manifest, as Session-Buddy writes them."""

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
    """Write an upload of `system_id`, made at `at`, to the inbox.

    A conversation or reflection is its text, or a dict whose columns (`content` among them) override the defaults. The
    last row is one minute older than `at`, each earlier one a minute more. `others` are complete rows of other tables,
    such as the older `conversations` and `reflections`, and `kg_entities`. Ids depend on text and time alone.
    """
    rng = Random(f"{system_id}/{at.isoformat()}")
    conversation_rows, reflection_rows = list(conversations), list(reflections)
    tables = dict(others or {})
    if conversation_rows:
        tables["conversations_v2"] = [
            _with_defaults(row, rows.conversation(_text(row), at=when, zone=zone, project=project))
            for row, when in _spread(conversation_rows, at)
        ]
    if reflection_rows:
        tables["reflections_v2"] = [
            _with_defaults(row, rows.reflection(_text(row), at=when, zone=zone, project=project, rng=rng))
            for row, when in _spread(reflection_rows, at)
        ]
    with Renderer() as renderer:
        return write_upload(ObjectStore(inbox.as_uri()), system_id, tables, at=at, renderer=renderer)


def _spread(rows: list[str | Row], at: datetime) -> list[tuple[str | Row, datetime]]:
    return [(row, at - timedelta(minutes=len(rows) - index)) for index, row in enumerate(rows)]


def _text(row: str | Row) -> str:
    return row if isinstance(row, str) else row["content"]


def _with_defaults(row: str | Row, defaults: Row) -> Row:
    return defaults if isinstance(row, str) else defaults | row
