"""`akosha explain`: prints why one memory is in its tier, as `lake/lifecycle/explain.py` finds it."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from akosha_assets.cli.ledgers import open_ledger
from akosha_assets.cli.output import (
    Exit,
    Json,
    console,
    emit,
    escape_markup,
    fail,
    format_value,
    key_values,
    lake_errors,
)

if TYPE_CHECKING:
    from akosha_assets.lake.lifecycle.explain import Explanation


def explain(
    memory: Annotated[
        str,
        typer.Argument(
            metavar="SYSTEM/KIND/ID", help="The memory to explain, by any of its ids; `akosha search` shows it as id."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Show the tier of a memory and the reason: policy, files, upload and run that wrote it, and when it moves next.

    Exit status 0: shown; 1: no tier has it; 2: the name is not SYSTEM/KIND/ID; 3: a store did not answer.
    """
    parts = memory.split("/", 2)
    if len(parts) != 3 or not all(parts):
        raise fail(
            (
                f"{memory!r} is not SYSTEM/KIND/ID, for example laptop-ada-00000/conversation/0b7c; `akosha search` "
                "shows it as id"
            ),
            Exit.USAGE,
        )
    from akosha_assets.lake.catalog import Lake
    from akosha_assets.lake.lifecycle.explain import explain
    from akosha_assets.lake.lifecycle.policy import TierPolicy
    from akosha_assets.lake.settings import LakeSettings

    lake = Lake(LakeSettings())
    with lake_errors(), open_ledger(lake.settings, create=False) as ledger:
        explanation = explain(lake, ledger, *parts, policy=TierPolicy.of(lake.settings), today=datetime.now(UTC).date())
    if as_json:
        emit(asdict(explanation) | {"policy": json.loads(explanation.policy) if explanation.policy else None})
        return
    shown = f"{explanation.system_id}/{explanation.kind}/{explanation.id}"
    console.print(key_values(shown, _explanation_rows(explanation)))
    # Not wrapped, so that the path can be copied.
    for file in explanation.files:
        console.print(f"[dim]file[/]  {escape_markup(file)}", highlight=False, soft_wrap=True)


def _explanation_rows(found: "Explanation") -> Iterator[tuple[str, Any]]:
    """The lines about a memory; those without a value are left out."""
    yield "tier", found.tier
    yield "reason", found.reason
    if found.moves_on is not None:
        yield (
            "then",
            f"to {found.next_tier} on {found.moves_on}"
            if found.next_tier != "none"
            else f"may be deleted from {found.moves_on} on",
        )
    yield "happened", f"{format_value(found.occurred_at)} UTC, known from {found.occurred_from}"
    yield "vector", found.space if found.has_vector else "not embedded yet"
    if found.moved_at is not None:
        yield "moved", f"{format_value(found.moved_at)} UTC by {found.aged_by}"
    if found.summary_method is not None:
        yield "summary by", found.summary_method
    if found.recall_at_10 is not None:
        yield "recall at 10", found.recall_at_10
    for alias in found.aliases:
        yield "new id", f"{alias.id}, since the snapshot of {format_value(alias.snapshot_at)} UTC"
    if found.absent_since is not None:
        yield "absent", f"its source lacks it since the snapshot of {format_value(found.absent_since)} UTC"
    if found.also_in:
        yield "also in", f"{', '.join(found.also_in)}, hidden there until the day is aged again"
    yield "policy", found.policy_version
    yield (
        "arrived",
        f"{format_value(found.arrived_at)} UTC in batch {found.batch_id}, run {found.ingest_run or 'no longer known'}",
    )
    yield "upload", f"{found.upload_id}, the snapshot of {format_value(found.snapshot_at)} UTC"
    yield "object", f"{found.object_key}, table {found.source_table}"
    yield "table", f"{found.table}, version {found.table_version}"
