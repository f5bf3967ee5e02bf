"""The listing of the inbox: what is found whatever its names are, and where a sweep that paused goes on."""

import os
from datetime import UTC, datetime
from pathlib import Path

from akosha_assets.lake.ingestion.inbox.listing import sweep
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.settings import LakeSettings


def test_names_that_are_no_unicode_are_quarantined_and_stop_no_sweep(tmp_path: Path) -> None:
    names = [b"a/uploads/u", b"b\xff/uploads/u", b"c/uploads/\xfe", b"d\n/uploads/u", b"e/uploads/u"]
    for name in names:
        folder = os.path.join(os.fsencode(tmp_path), b"inbox", b"systems", name)
        os.makedirs(folder)
        with open(os.path.join(folder, b"manifest.json"), "w") as manifest:
            manifest.write("{}")
    # So short a tick pauses after each upload.
    settings = LakeSettings(home=tmp_path, tick_seconds=1e-9)
    ledger = Ledger.open(settings)
    sweeps = [sweep(settings, ledger, now=datetime.now(UTC)) for _ in names]
    assert [one.added for one in sweeps] == [1] * len(names)
    assert [one.finished for one in sweeps] == [False] * (len(names) - 1) + [True]
    assert {(one.system_id, one.upload_id, one.reason) for one in ledger.uploads().uploads} == {
        ("a", "u", None),
        ("b\\udcff", "u", "system_id_invalid"),
        ("c", "\\udcfe", "upload_id_invalid"),
        ("d\n", "u", "system_id_invalid"),
        ("e", "u", None),
    }
    ledger.close()
