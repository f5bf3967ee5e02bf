"""Everything at once, from one seed: hostile and odd uploads among sound ones, uploads that are committed in parts, a
store that fails at random, a clock that jumps, and SIGKILL.

Afterwards every valid row is stored once and found, no hostile upload counts as ingested, and the service is ready.
"""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import httpx
import pytest
import sqlalchemy as sa

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import TransientError
from akosha_assets.lake.ingestion import arrivals
from akosha_assets.lake.ingestion.inbox import listing
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.schema import batches
from akosha_assets.lake.ingestion.ledger.states import UploadState
from akosha_assets.lake.settings import LakeSettings
from tests.api.conftest import serve, until
from tests.factories import make_upload
from tests.failure.test_killed_while_ingesting import INGEST
from tests.flaky_bucket import FlakyStore, flaky_bucket
from tests.hostile import ACCEPTED, REJECTED

__all__ = ["serve"]

SEED = int(os.environ.get("AKOSHA_CHAOS_SEED", "20261127"))
AT = datetime(2026, 11, 27, 9, tzinfo=UTC)
SYSTEMS = 6
# Steps at which a run kills itself, and one at which it does not.
STEPS = (
    "claimed",
    "fetched",
    "before_commit",
    "committed graph/entities",
    "committed lifecycle/hot",
    "finished",
    "never",
)
# Offsets of the clock while uploads are discovered.
CLOCKS = (timedelta(0), timedelta(days=-3000), timedelta(days=-365 * 56), timedelta(days=3650))
SLOW = {
    "a view that never ends",
    "a text of 30 MB",
    "a SQLite value of 30 MB",
    "a gzip bomb",
    "a gzip bomb with a false size in its trailer",
}


def put_sound(inbox: Path, snapshot: int) -> dict[tuple[str, str], str]:
    """Each system uploads a snapshot; returns the current texts of its memories."""
    texts: dict[tuple[str, str], str] = {}
    for number in range(SYSTEMS):
        system = f"sound-{number}"
        rows = [
            {"id": f"R{row}", "content": f"marker{number}x{row} written in {snapshot if row == 2 else 1}"}
            for row in range(2 + snapshot)
        ]
        make_upload(
            inbox,
            system,
            reflections=rows,
            others={
                "kg_entities": [
                    {"id": f"e{number}", "name": "postgres", "entity_type": "technology", "observations": ["seen"]}
                ]
            },
            at=AT + timedelta(minutes=snapshot),
        )
        texts |= {(system, row["id"]): row["content"] for row in rows}
    return texts


def put_hostile(inbox: Path, random: Random) -> int:
    """One upload each of a seeded choice of hostile and odd databases, and entries of a folder that are no uploads."""
    makers = [REJECTED[name][0] for name in random.sample(sorted(REJECTED.keys() - SLOW), 10)]
    makers += [ACCEPTED[name][0] for name in random.sample(sorted(ACCEPTED), 4)]
    for number, make in enumerate(makers):
        name = f"20261127_09{number:02d}00_hostile-{number}"
        folder = inbox / "systems" / f"hostile-{number}" / "uploads" / name
        folder.mkdir(parents=True)
        make(folder / "reflection.duckdb")
        if random.random() < 0.2:
            (folder / "manifest.json").write_text(
                random.choice(
                    (
                        "",
                        "{",
                        "[]",
                        '{"upload_id": "a\\u0000b"}',
                        "\ud800".encode(errors="surrogatepass").decode("latin-1"),
                    )
                )
            )
            continue
        (folder / "manifest.json").write_text(
            f'{{"upload_id": "{name}", "system_id": "hostile-{number}", "timestamp": "2026-11-27T09:00:00+00:00", '
            '"files": [{"name": "reflection.duckdb"}], "metadata": {"uploader": "session-buddy"}}'
        )
    odd = inbox / "systems" / "odd" / "uploads"
    (odd / "20261127_090000_odd" / "reflection.duckdb").mkdir(parents=True)
    (odd / "20261127_090000_odd" / "manifest.json").write_text("{}")
    (odd / "20261127_090001_odd").symlink_to("/")
    os.mkfifo(odd / "20261127_090000_odd" / "pipe")
    (Path(os.fsdecode(os.fsencode(odd) + b"/\xff\xfe"))).mkdir()
    (odd / "loop").symlink_to(odd)
    deep = odd / "deep"
    for _ in range(40):
        deep = deep / "d"
    deep.mkdir(parents=True)
    return len(makers)


def end_waits(ledger: Ledger) -> None:
    """Ends leases and pauses, as if hours had passed."""
    with ledger.write() as connection:
        connection.execute(sa.update(batches).values(lease_until=datetime(2000, 1, 1, tzinfo=UTC)))
        connection.execute(sa.text("UPDATE uploads SET not_before = NULL"))


def test_sound_rows_survive_hostile_uploads_a_failing_store_and_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[..., httpx.Client]
) -> None:
    random = Random(SEED)
    with flaky_bucket("chaos", monkeypatch) as store:
        settings = LakeSettings(home=tmp_path, workers=1, lake_url=f"{store.url}/lake")
        ledger = Ledger.open(settings)
        put_sound(settings.home / "inbox", 1)
        hostile = put_hostile(settings.home / "inbox", random)
        listing.sweep(settings, ledger, now=datetime.now(UTC) + random.choice(CLOCKS), whole=True)
        run_and_kill(settings, ledger, store, random)
        expected = put_sound(settings.home / "inbox", 2)
        listing.sweep(settings, ledger, now=datetime.now(UTC) + random.choice(CLOCKS), whole=True)
        run_and_kill(settings, ledger, store, random)

        store.share = 0.0
        end_waits(ledger)
        arrivals.ingest(Lake(settings), ledger, run_id="calm")

        states = Counter(
            (one.system_id.startswith("sound"), one.state, one.reason) for one in ledger.uploads(limit=1000).uploads
        )
        assert states[True, UploadState.INGESTED, None] == 2 * SYSTEMS, states
        assert not [state for _, state, _ in states if state not in ("ingested", "quarantined", "arriving")], states
        assert not [reason for _, _, reason in states if reason == "attempts_exhausted"], states
        assert (
            sum(count for (is_sound, state, _), count in states.items() if not is_sound and state == "quarantined")
            >= hostile // 2
        )

        rows = Lake(settings).select("lifecycle/hot", ["system_id", "id", "text"]).to_pylist()
        stored = Counter((row["system_id"], row["id"]) for row in rows if row["system_id"].startswith("sound"))
        assert stored == Counter(expected.keys())
        assert {
            (row["system_id"], row["id"]): row["text"] for row in rows if row["system_id"].startswith("sound")
        } == expected

        client = serve(Lake(settings))
        until(lambda: client.get("/health").json()["is_settled"])
        assert client.get("/ready").status_code == 200
        for (system, memory), text in expected.items():
            found = client.post(
                "/api/v1/search", json={"query": text.split()[0], "mode": "keyword", "collapse": False}
            ).json()["results"]
            assert [(one["system_id"], one["id"]) for one in found] == [(system, memory)]


def run_and_kill(settings: LakeSettings, ledger: Ledger, store: FlakyStore, random: Random) -> None:
    """Runs of ingestion against a store that refuses requests, each killed at a step of the seed's choice."""
    for share, step in zip((0.05, 0.02), random.sample(STEPS, 2), strict=True):
        store.share, store.random = share, Random(random.random())
        end_waits(ledger)
        run = subprocess.run(
            [sys.executable, "-c", INGEST, str(settings.home), step, random.choice(("whole", "parts"))],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "AKOSHA_LAKE_URL": str(settings.lake_url), "AKOSHA_BATCH_UPLOADS": "4"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode in (0, 1, -signal.SIGKILL), run.stderr
        assert run.returncode != 1 or TransientError.__name__ in run.stderr or "StoreUnavailable" in run.stderr, (
            run.stderr
        )
