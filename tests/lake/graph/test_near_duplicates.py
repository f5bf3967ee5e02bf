"""Near-duplicates across the fleet are grouped by their fingerprints, and every one of them stays."""

from datetime import UTC, datetime

import numpy as np
import pytest
from datasketch import MinHashLSH

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.graph import near_duplicates
from akosha_assets.lake.ingestion import arrivals
from akosha_assets.lake.ingestion.inbox import listing
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.settings import LakeSettings
from tests.factories import make_upload

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LONG = (
    "The connection pool of the orders service was exhausted because a migration held a lock on the table for eleven "
    "minutes. " * 3
)


def test_the_same_words_on_several_systems_are_one_group(settings: LakeSettings, lake: Lake) -> None:
    inbox = settings.home / "inbox"
    make_upload(
        inbox, "a", conversations=[LONG + "Ticket one.", "something else entirely, about certificates that expire"]
    )
    make_upload(inbox, "b", conversations=[LONG + "Ticket two."])
    make_upload(inbox, "c", conversations=[LONG + "Ticket one."])
    ledger = Ledger.open(settings)
    listing.sweep(settings, ledger, now=NOW)
    arrivals.ingest(lake, ledger, run_id="test")
    for _ in range(2):
        grouped = near_duplicates.group(lake, now=NOW, run_id="test")
        assert (grouped.memories, grouped.grouped, grouped.groups, grouped.widest_systems) == (4, 3, 1, 3)
    rows = lake.select("graph/near_duplicates", ["system_id", "group_id", "similarity", "group_memories"]).to_pylist()
    assert {row["system_id"] for row in rows} == {"a", "b", "c"}
    assert len({row["group_id"] for row in rows}) == 1 and all(row["similarity"] >= 0.85 for row in rows)
    assert lake.select("lifecycle/hot", ["id"]).num_rows == 4


def test_an_empty_lake_has_no_groups(lake: Lake) -> None:
    assert near_duplicates.group(lake, now=NOW, run_id="test").groups == 0


def test_members_are_compared_with_their_leader_so_that_a_group_does_not_drift() -> None:
    first = np.arange(128, dtype=np.uint64)
    near, far = first.copy(), first.copy()
    near[:12] += np.uint64(1000)
    far[:12] += np.uint64(1000)
    far[12:30] += np.uint64(2000)
    leader, similarity, _ = near_duplicates.leaders(np.stack([first, near, far]))
    assert leader.tolist() == [0, 0, 2]
    assert similarity.round(2).tolist() == [1.0, 0.91, 1.0]


def test_fingerprints_made_to_share_a_bucket_are_not_all_compared_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    class Counted(MinHashLSH):
        def query(self, minhash: object) -> list[int]:
            found: list[int] = super().query(minhash)
            compared.append(len(found))
            return found

    monkeypatch.setattr(near_duplicates, "MinHashLSH", Counted)
    monkeypatch.setattr(near_duplicates, "CANDIDATES_MAX", 10)
    values = np.random.default_rng(0).integers(0, 2**32, (300, 128), dtype=np.uint64)
    values[:, :64] = 7
    copy = values[:1].copy()
    leader, _, crowded = near_duplicates.leaders(np.concatenate([values, copy]))
    assert max(compared) == 10 and crowded == 290
    # Those that were there first still lead.
    assert leader[-1] == 0
