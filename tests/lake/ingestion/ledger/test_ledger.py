"""The ledger: discovery only adds, claims are fair and fenced, the batch of a dead run is claimed again."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from akosha_assets.lake.errors import AmbiguousUpload, InvalidRequest, LeaseLost, NotFound
from akosha_assets.lake.ingestion import backlog
from akosha_assets.lake.ingestion.ledger import claims
from akosha_assets.lake.ingestion.ledger.found_uploads import FoundUpload
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.outcomes import SystemState, UploadOutcome
from akosha_assets.lake.ingestion.ledger.schema import metadata, systems
from akosha_assets.lake.ingestion.ledger.states import UploadState
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.tables import Fence

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = NOW + timedelta(seconds=121)


@pytest.fixture
def ledger(ledger_url: str, tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(LakeSettings(home=tmp_path, ledger_url=ledger_url, batch_uploads=4, batch_system_uploads=2))
    yield opened
    opened.close()


def make_found(system: str, number: int, *, revision: str = "1", size: int = 100, reason: str = "") -> FoundUpload:
    upload = f"20261123_1200{number:02d}_{system}"
    return FoundUpload(
        system,
        upload,
        "session-buddy",
        f"systems/{system}/uploads/{upload}",
        revision,
        size,
        NOW + timedelta(seconds=number),
        reason,
    )


def upload_ids(batch: claims.Batch | None) -> list[str]:
    assert batch is not None
    return [one.upload_id for one in batch.uploads]


def test_the_migrations_lead_to_the_schema_in_the_code(ledger: Ledger) -> None:
    with ledger.read() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    assert [one for one in differences if "alembic_version" not in str(one)] == []


def test_an_upload_found_again_is_not_added_twice(ledger: Ledger) -> None:
    assert ledger.add([make_found("a", 1), make_found("a", 1)], found_by="listing", now=NOW) == 1
    assert ledger.add([make_found("a", 1)], found_by="event", now=NOW) == 0


def test_an_object_overwritten_under_its_key_is_a_new_revision(ledger: Ledger) -> None:
    ledger.add([make_found("a", 1)], found_by="listing", now=NOW)
    assert ledger.add([make_found("a", 1, revision="2")], found_by="listing", now=NOW) == 1


def test_an_upload_without_manifest_cannot_be_claimed_until_it_arrives(ledger: Ledger) -> None:
    ledger.add([make_found("a", 1, revision="")], found_by="listing", now=NOW)
    assert claims.claim(ledger, run_id="r", now=NOW) is None
    ledger.add([make_found("a", 1)], found_by="listing", now=NOW)
    assert upload_ids(claims.claim(ledger, run_id="r", now=NOW)) == ["20261123_120001_a"]
    assert ledger.add([make_found("a", 1, revision="")], found_by="listing", now=NOW) == 0


def test_an_upload_without_manifest_after_the_grace_period_is_incomplete(ledger: Ledger) -> None:
    ledger.add([make_found("a", 1, revision="")], found_by="listing", now=NOW - timedelta(hours=1))
    assert backlog.measure(ledger, now=NOW).incomplete == 1
    assert [one.system_id for one in ledger.uploads(state="incomplete", now=NOW).uploads] == ["a"]


def test_an_invalid_system_id_is_quarantined_at_once(ledger: Ledger) -> None:
    ledger.add([make_found("../x", 1, reason="system_id_invalid")], found_by="listing", now=NOW)
    assert ledger.uploads(state="quarantined").uploads[0].reason == "system_id_invalid"
    assert ledger.redrive(reason="system_id_invalid", dry_run=False, now=NOW) == []


def test_no_system_gets_more_than_its_share_while_others_wait(ledger: Ledger) -> None:
    ledger.add(
        [make_found("loud", number) for number in range(9)] + [make_found("quiet", 50)], found_by="listing", now=NOW
    )
    assert sorted(upload_ids(claims.claim(ledger, run_id="r", now=NOW))) == [
        "20261123_120000_loud",
        "20261123_120001_loud",
        "20261123_120050_quiet",
    ]


def test_a_batch_is_limited_by_the_known_rows_of_its_systems_but_has_at_least_one_upload(ledger: Ledger) -> None:
    names = [("a", 700_000), ("b", 300_001), ("c", 300_000), ("d", 2_000_000)]
    with ledger.write() as connection:
        for name, rows in names:
            connection.execute(sa.insert(systems).values(system_id=name, first_seen_at=NOW, known_rows=rows))
    ledger.add([make_found(name, 10 * turn) for turn in range(2) for name, _ in names], found_by="listing", now=NOW)
    batches = [claims.claim(ledger, run_id="r", now=NOW) for _ in range(3)]
    assert [sorted({one.system_id for one in batch.uploads}) for batch in batches if batch] == [
        ["a", "c"],
        ["b"],
        ["d"],
    ]


def test_two_batches_never_have_the_same_system(ledger: Ledger) -> None:
    ledger.add([make_found("a", number) for number in range(6)] + [make_found("b", 1)], found_by="listing", now=NOW)
    first = claims.claim(ledger, run_id="r1", now=NOW)
    assert {"a", "b"} == {one.system_id for one in first.uploads} if first else False
    assert claims.claim(ledger, run_id="r2", now=NOW) is None


def test_a_batch_is_limited_by_bytes_but_has_at_least_one_upload(tmp_path: Path) -> None:
    ledger = Ledger.open(LakeSettings(home=tmp_path, batch_bytes=1024 * 1024))
    ledger.add([make_found("a", 1, size=5_000_000), make_found("b", 2, size=10)], found_by="listing", now=NOW)
    assert upload_ids(claims.claim(ledger, run_id="r", now=NOW)) == ["20261123_120001_a"]


def test_a_batch_is_released_when_its_lease_ends_and_its_owner_loses_access(ledger: Ledger) -> None:
    ledger.add([make_found("a", 1)], found_by="listing", now=NOW)
    lost = claims.claim(ledger, run_id="r1", now=NOW)
    fences: list[Fence] = []
    assert claims.recover(ledger, fences.append, now=NOW) == 0
    assert claims.recover(ledger, fences.append, now=LATER) == 1
    assert fences == []
    again = claims.claim(ledger, run_id="r2", now=LATER)
    assert lost and again and upload_ids(again) == upload_ids(lost) and again.id > lost.id
    for step in (claims.renew, claims.begin_commit):
        with pytest.raises(LeaseLost):
            step(ledger, lost, now=LATER)
    with pytest.raises(LeaseLost):
        claims.finish(ledger, lost, {}, {}, rows=0, now=LATER)


def test_a_batch_that_died_while_committing_is_fenced_off_and_its_systems_are_read_from_the_tables(
    ledger: Ledger,
) -> None:
    ledger.add([make_found("a", 1)], found_by="listing", now=NOW)
    lost = claims.claim(ledger, run_id="r1", now=NOW)
    assert lost
    claims.begin_commit(ledger, lost, now=NOW)
    fences: list[Fence] = []
    claims.recover(ledger, fences.append, now=LATER)
    assert [fence.writer for fence in fences] == [lost.fence.writer] and fences[0].sequence > lost.fence.sequence
    assert not ledger.systems()[0].is_known
    with pytest.raises(LeaseLost):
        claims.finish(ledger, lost, {}, {}, rows=0, now=LATER)


def test_finish_stores_the_outcome_of_each_upload_and_system(ledger: Ledger) -> None:
    ledger.add([make_found("a", 1), make_found("b", 1), make_found("c", 1)], found_by="listing", now=NOW)
    batch = claims.claim(ledger, run_id="r", now=NOW)
    assert batch
    refs = {one.system_id: one.id for one in batch.uploads}
    claims.begin_commit(ledger, batch, now=NOW)
    outcomes = {
        refs["a"]: UploadOutcome(UploadState.INGESTED, {"new_rows": 3, "hot_version": 7, "flaws": {"odd": 1}}),
        refs["b"]: UploadOutcome(UploadState.QUARANTINED, reason="gzip_damaged", message="b is damaged"),
    }
    claims.finish(ledger, batch, outcomes, {"a": SystemState(b"rows", 3, {}, NOW)}, rows=3, now=NOW)
    receipt = ledger.receipt("20261123_120001_a")
    assert (receipt.state, receipt.new_rows, receipt.hot_version, receipt.counts) == (
        "ingested",
        3,
        7,
        {"flaws": {"odd": 1}},
    )
    assert ledger.receipt("20261123_120001_b").reason == "gzip_damaged"
    assert ledger.receipt("20261123_120001_c").state == "waiting"
    assert upload_ids(claims.claim(ledger, run_id="r", now=NOW)) == ["20261123_120001_c"]


def test_three_failures_quarantine_an_upload_and_a_redrive_queues_it_again(ledger: Ledger) -> None:
    ledger.add([make_found("a", 1)], found_by="listing", now=NOW)
    for attempt in range(3):
        now = NOW + timedelta(hours=attempt)
        batch = claims.claim(ledger, run_id="r", now=now)
        assert batch
        claims.finish(
            ledger,
            batch,
            {batch.uploads[0].id: UploadOutcome(UploadState.WAITING, message="inbox down")},
            {},
            rows=0,
            now=now,
        )
        assert claims.claim(ledger, run_id="r", now=now) is None
    receipt = ledger.receipt("20261123_120001_a")
    assert (receipt.state, receipt.reason) == ("quarantined", "attempts_exhausted")
    assert "inbox down" in receipt.message
    assert ledger.redrive(upload_id="20261123_120001_a", dry_run=True, now=NOW) == ["20261123_120001_a"]
    assert ledger.receipt("20261123_120001_a").state == "quarantined"
    ledger.redrive(upload_id="20261123_120001_a", dry_run=False, now=NOW)
    assert upload_ids(claims.claim(ledger, run_id="r", now=NOW)) == ["20261123_120001_a"]


def test_a_batch_that_fails_repeatedly_shrinks_until_the_faulty_upload_is_alone(tmp_path: Path) -> None:
    ledger = Ledger.open(LakeSettings(home=tmp_path, batch_uploads=64))
    ledger.add([make_found(f"s{number}", 1) for number in range(64)], found_by="listing", now=NOW)
    sizes = []
    for _ in range(5):
        batch = claims.claim(ledger, run_id="r", now=NOW)
        assert batch
        sizes.append(len(batch.uploads))
        claims.release(ledger, batch, error="cannot be stored", at_fault=True, now=NOW)
    assert sizes == [64, 8, 1, 1, 1]
    with ledger.read() as connection:
        limits = connection.execute(sa.text("SELECT batch_limit, count(*) FROM uploads GROUP BY 1")).all()
    assert sorted(limits) == [(1, 8), (8, 56)]


def test_a_replay_claims_only_uploads_of_its_arrival_day(ledger: Ledger) -> None:
    ledger.add([make_found("a", 1)], found_by="listing", now=NOW - timedelta(days=1))
    ledger.add([make_found("b", 1)], found_by="listing", now=NOW)
    assert upload_ids(claims.claim(ledger, run_id="r", now=NOW, arrival_day=date(2026, 11, 22))) == [
        "20261123_120001_a"
    ]


def test_uploads_are_paged_newest_first(ledger: Ledger) -> None:
    ledger.add([make_found("a", number) for number in range(5)], found_by="listing", now=NOW)
    first = ledger.uploads(limit=3)
    second = ledger.uploads(limit=3, cursor=first.cursor)
    assert [one.upload_id[13:15] for one in [*first.uploads, *second.uploads]] == ["04", "03", "02", "01", "00"]
    assert second.cursor is None


def test_an_unknown_state_or_upload_raises_a_clear_error(ledger: Ledger) -> None:
    with pytest.raises(InvalidRequest, match="expected one of arriving, waiting"):
        ledger.uploads(state="lost")
    with pytest.raises(NotFound, match="no upload 'x'"):
        ledger.receipt("x")


def test_an_upload_id_of_several_systems_is_ambiguous_without_a_system_id(ledger: Ledger) -> None:
    victim, mallory = (
        FoundUpload(name, "u", "session-buddy", f"systems/{name}/uploads/u", "1", 10, NOW)
        for name in ("victim", "mallory")
    )
    ledger.add([victim], found_by="listing", now=NOW)
    assert ledger.receipt("u").system_id == "victim"
    ledger.add([mallory], found_by="listing", now=NOW)
    with pytest.raises(AmbiguousUpload, match="2 systems have an upload 'u'; expected system_id") as raised:
        ledger.receipt("u")
    assert raised.value.found == {"mallory": "waiting", "victim": "waiting"}
    assert ledger.receipt("u", system_id="victim").system_id == "victim"
    with pytest.raises(NotFound, match="no upload 'other/u'"):
        ledger.receipt("u", system_id="other")


def test_the_backlog_measures_waiting_uploads_and_their_age(ledger: Ledger) -> None:
    ledger.add(
        [make_found("a", 1), make_found("a", 2), make_found("b", 1)],
        found_by="listing",
        now=NOW - timedelta(seconds=60),
    )
    measured = backlog.measure(ledger, now=NOW)
    assert (measured.waiting, measured.waiting_bytes, measured.oldest_waiting_seconds) == (3, 300, 60.0)
    assert measured.largest_system_share == pytest.approx(2 / 3)
    assert measured.catch_up_seconds is None


def test_concurrent_processes_can_open_a_new_ledger(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from akosha_assets.lake.ingestion.ledger.ledger import Ledger; "
        "from akosha_assets.lake.settings import LakeSettings; "
        "Ledger.open(LakeSettings(home=Path(sys.argv[1]))).count('opened')"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) for _ in range(4)]
    assert [one.wait(timeout=60) for one in running] == [0, 0, 0, 0]
    assert Ledger.open(LakeSettings(home=tmp_path)).counts() == {"opened": 4}
