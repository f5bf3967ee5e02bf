"""Rows of real uploads, from a folder and from a bucket, counted as in the README of the uploads."""

import shutil
from collections import Counter
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

EXPECTED = {
    ("laptop-ada", "conversations_v2"): 86,
    ("laptop-ada", "reflections_v2"): 24,
    ("laptop-ada", "conversations"): 2,
    ("laptop-ada", "reflections"): 2,
    ("laptop-ada", "causal_links"): 8,
    ("laptop-ada", "memory_entities"): 4,
    ("laptop-ada", "memory_relationships"): 2,
    ("laptop-ada", "code_graphs"): 2,
    ("laptop-ada", "kg_entities"): 13,
    ("laptop-ada", "kg_relationships"): 11,
    ("ci-runner-7", "conversations_v2"): 18,
    ("ci-runner-7", "reflections_v2"): 5,
    ("ci-runner-7", "conversations"): 1,
    ("ci-runner-7", "reflections"): 1,
    ("ci-runner-7", "causal_links"): 5,
    ("ci-runner-7", "memory_entities"): 2,
    ("ci-runner-7", "memory_relationships"): 1,
    ("ci-runner-7", "code_graphs"): 1,
    ("ci-runner-7", "kg_entities"): 7,
    ("ci-runner-7", "kg_relationships"): 6,
    ("fresh-box", "kg_entities"): 7,
    ("fresh-box", "kg_relationships"): 6,
}
TABLES = ("lifecycle/hot", "graph/entities", "graph/relations", "graph/causal_links", "graph/code_graphs")


def stored(lake: Lake) -> dict[tuple[str, str], int]:
    rows = [row for address in TABLES for row in lake.select(address, ["system_id", "source_table"]).to_pylist()]
    return dict(Counter((row["system_id"], row["source_table"]) for row in rows))


def ingest_inbox(settings: LakeSettings) -> tuple[Lake, Ledger]:
    lake, ledger = Lake(settings), Ledger.open(settings)
    listing.sweep(settings, ledger, now=datetime.now(UTC))
    arrivals.ingest(lake, ledger, run_id="test")
    return lake, ledger


def test_every_row_of_real_uploads_is_stored_once(tmp_path: Path, shared: Path) -> None:
    lake, ledger = ingest_inbox(LakeSettings(home=tmp_path, inbox_url=str(shared / "uploads")))
    assert stored(lake) == EXPECTED
    assert {one.state for one in ledger.uploads().uploads} == {"ingested"}
    assert ledger.receipt("20261123_113803_fresh-box").reason is None


def test_a_second_snapshot_stores_only_changed_rows(tmp_path: Path, shared: Path) -> None:
    inbox = tmp_path / "inbox"
    uploads = Path("systems/laptop-ada/uploads")
    settings = LakeSettings(home=tmp_path / "home", inbox_url=str(inbox))
    # One entity gained an observation, two causal links new evidence, and the user's model was updated.
    for upload, new, changed, unchanged in (
        ("20261123_113725_laptop-ada", 113, 0, 0),
        ("20261123_113736_laptop-ada", 108, 4, 109),
    ):
        shutil.copytree(shared / "uploads" / uploads / upload, inbox / uploads / upload)
        lake, ledger = ingest_inbox(settings)
        receipt = ledger.receipt(upload)
        assert (receipt.new_rows, receipt.changed_rows, receipt.unchanged_rows) == (new, changed, unchanged)
    assert stored(lake) == {key: count for key, count in EXPECTED.items() if key[0] == "laptop-ada"}


def test_a_bucket_gives_the_same_rows_as_a_folder(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bucket("fleet", monkeypatch) as url:
        inbox = ObjectStore(f"{url}/inbox")
        for path in sorted((shared / "uploads").rglob("*")):
            if path.is_file() and path.name != "README.md":
                inbox.put(path.relative_to(shared / "uploads").as_posix(), path.read_bytes())
        lake, _ = ingest_inbox(LakeSettings(home=tmp_path, inbox_url=f"{url}/inbox", lake_url=f"{url}/lake"))
        assert stored(lake) == EXPECTED
