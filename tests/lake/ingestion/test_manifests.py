"""Any manifest and any key is accepted or rejected with a reason, which SQLite and PostgreSQL ledgers can store."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.ingestion.ledger import claims
from akosha_assets.lake.ingestion.ledger.found_uploads import FoundUpload
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.outcomes import UploadOutcome
from akosha_assets.lake.ingestion.ledger.states import UploadState
from akosha_assets.lake.ingestion.uploads import MANIFEST, ManifestPart, parse_manifest, part_of
from akosha_assets.lake.settings import LakeSettings

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)

# Includes lone surrogates and NUL, which `text` excludes or generates rarely.
texts = st.text(st.characters(), max_size=20) | st.sampled_from(
    ["\0", "a\0b", "\ud800", "\udfff\ud800", "\\u0000", "é\u0301", "x" * 300]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "files": values | st.lists(texts | st.fixed_dictionaries({"name": texts}), max_size=30),
        "system_id": values,
        "upload_id": values,
        "timestamp": values,
    },
)
manifests = st.binary(max_size=60) | (documents | values).map(lambda value: json.dumps(value).encode())


@pytest.fixture
def ledger(ledger_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    opened = Ledger.open(LakeSettings(home=tmp_path_factory.mktemp("home"), ledger_url=ledger_url))
    yield opened
    opened.close()


def add(ledger: Ledger, part: ManifestPart, revision: str) -> Any:
    found = FoundUpload(part.system_id, part.upload_id, part.layout, part.prefix, revision, 1, NOW, part.reason)
    assert ledger.add([found], found_by="listing", now=NOW) == 1
    return ledger.uploads(limit=1).uploads[0]


# The examples share the fixture on purpose: each adds its own upload.
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(manifest=manifests)
@example(manifest=b"no json \0 here")
@example(manifest=b'{"files": ["\\u0000"]}')
@example(manifest=b'{"files": ["\\ud800"]}')
@example(manifest=b"\xff\xfe\0\0")
@example(manifest=b"[" * 100_000)
def test_every_manifest_is_accepted_or_rejected_and_its_receipt_can_be_read(ledger: Ledger, manifest: bytes) -> None:
    revision = str(len(ledger.uploads(limit=1000).uploads))
    upload = add(
        ledger,
        ManifestPart(f"systems/a/uploads/u{revision}", "a", f"u{revision}", "session-buddy", MANIFEST, True),
        revision,
    )
    batch = claims.claim(ledger, run_id="run", now=NOW)
    assert batch is not None
    try:
        parse_manifest(manifest, ManifestPart(upload.prefix, "a", upload.upload_id, "session-buddy", MANIFEST, True))
        outcome = UploadOutcome(UploadState.INGESTED)
    except UploadRejected as error:
        outcome = UploadOutcome(
            UploadState.QUARANTINED, reason=error.reason, message=error.message, sample=error.sample
        )
    claims.finish(ledger, batch, {upload.id: outcome}, {}, rows=0, now=NOW)
    receipt = ledger.receipt(upload.upload_id)
    assert (receipt.state, receipt.reason, receipt.message, receipt.sample) == (
        outcome.state,
        outcome.reason,
        outcome.message,
        outcome.sample,
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(system=texts, upload=texts, error=texts)
@example(system="a\0", upload="\ud800", error="\0\ud800")
def test_every_key_and_error_can_be_stored(ledger: Ledger, system: str, upload: str, error: str) -> None:
    part = part_of(f"systems/{system}/uploads/{upload}/{MANIFEST}")
    if part is not None:
        ledger.add(
            [FoundUpload(part.system_id, part.upload_id, part.layout, part.prefix, "1", 1, NOW, part.reason)],
            found_by="event",
            now=NOW,
        )
    ledger.add([FoundUpload("b", "b", "session-buddy", "systems/b/uploads/b", "1", 1, NOW)], found_by="event", now=NOW)
    batch = claims.claim(ledger, run_id="run", now=NOW)
    assert batch is not None
    claims.release(ledger, batch, error=error, at_fault=False, now=NOW)
    ledger.remember("key", error)
    assert ledger.uploads(system_id=system, limit=1) is not None


PLAIN = '{"files": [{"name": "reflection.duckdb"}], "metadata": {"host": "José"}}'


@pytest.mark.parametrize(
    ("data", "flaws"),
    [
        (PLAIN.encode("utf-8-sig"), {}),
        (PLAIN.encode("utf-16"), {}),
        (PLAIN.encode("utf-32"), {}),
        (b"\r\n" + PLAIN.encode() + b"\n\0\0", {}),
        (PLAIN.encode("latin-1"), {"text_not_utf8": 1}),
        (PLAIN.replace("é", "\\ud83d").encode(), {"text_not_utf8": 1}),
        (PLAIN.replace("é", "\t").encode(), {}),
        (PLAIN.replace('"José"', "NaN").encode(), {}),
    ],
)
def test_no_letter_of_a_manifest_costs_the_upload(data: bytes, flaws: dict[str, int]) -> None:
    part = ManifestPart("systems/a/uploads/u", "a", "u", "session-buddy", MANIFEST, True)
    manifest = parse_manifest(data, part)
    assert (manifest.files, manifest.flaws) == (("reflection.duckdb",), flaws)
