"""The answer of a worker is used only if it is exactly valid."""

import json
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from akosha_assets.lake.errors import LocalStorageFailed, UploadRejected
from akosha_assets.lake.ingestion.extraction import protocol
from akosha_assets.lake.ingestion.extraction.protocol import Extraction, read_answer
from akosha_assets.lake.ingestion.source.change_detection import SEEN_SCHEMA
from akosha_assets.lake.schemas import HOT, extracted

SPOOL = Path(tempfile.gettempdir())
SEEN = pa.RecordBatch.from_pylist([{"kind": "reflection", "id": "R1", "content_hash": 1}], schema=SEEN_SCHEMA)


def read_result(
    folder: Path, contents: dict[str, bytes], rows: dict[str, object] | None = None, uploads: int = 1, **changed: object
) -> list[Extraction] | UploadRejected:
    (folder / "result").write_bytes(b"".join(contents.values()))
    lengths = [[address, len(data), (rows or {}).get(address, [[1]])] for address, data in contents.items()]
    answer = {"parts": lengths, "on_disk": False, "counts": [[1, {}]] * uploads, "seconds": {}, **changed}
    outcome, healthy = read_answer(json.dumps(answer).encode(), [folder], "result", list(range(7, 7 + uploads)), SPOOL)
    assert healthy is isinstance(outcome, list)
    assert isinstance(outcome, list | UploadRejected)
    return outcome


def hot_rows(**values: object) -> pa.RecordBatch:
    schema = extracted(HOT)
    filled = {pa.string(): "x", pa.int64(): 1, pa.int32(): 1, pa.date32(): date(2026, 1, 1), pa.binary(): b"x"}
    row = {
        field.name: filled.get(field.type, datetime(2026, 1, 1, tzinfo=UTC)) for field in schema if not field.nullable
    }
    return pa.RecordBatch.from_pylist([row | values], schema=pa.schema([field.with_nullable(True) for field in schema]))


def test_batches_of_several_tables_are_read_unchanged(tmp_path: Path) -> None:
    hot = hot_rows()
    found = read_result(
        tmp_path, {"seen": bytes(SEEN.serialize()), HOT.address: 2 * bytes(hot.serialize())}, {HOT.address: [[1], [1]]}
    )
    assert isinstance(found, list)
    (outcome,) = found
    assert outcome.seen.to_pylist() == SEEN.to_pylist()
    assert outcome.rows[HOT.address].to_pylist() == 2 * hot.to_pylist()
    assert outcome.rows[HOT.address].schema == extracted(HOT)


def test_rows_of_a_group_are_assigned_to_their_uploads(tmp_path: Path) -> None:
    seen = pa.RecordBatch.from_pylist(
        [{"kind": "reflection", "id": name, "content_hash": 1} for name in "abc"], schema=SEEN_SCHEMA
    )
    contents = {"seen": bytes(seen.serialize()), HOT.address: bytes(hot_rows().serialize())}

    found = read_result(
        tmp_path,
        contents,
        {"seen": [[1, 0, 2]], HOT.address: [[0, 0, 1]]},
        uploads=3,
        counts=[[1, {}], [0, {"odd": 2}], [2, {}]],
    )

    assert isinstance(found, list)
    assert [one.ref for one in found] == [7, 8, 9]
    assert [one.seen["id"].to_pylist() for one in found] == [["a"], [], ["b", "c"]]
    assert [list(one.rows) for one in found] == [[], [], [HOT.address]]
    assert [(one.rows_read, one.flaws) for one in found] == [(1, {}), (0, {"odd": 2}), (2, {})]


def test_rows_of_a_large_result_are_in_an_unlinked_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "IN_MEMORY_MAX_BYTES", 0)
    monkeypatch.setattr(f"{__name__}.SPOOL", tmp_path)
    rows = pa.Table.from_batches([hot_rows(id=name).cast(extracted(HOT)) for name in "abc"])
    contents = {
        "seen": bytes(SEEN.serialize()),
        HOT.address: b"".join(bytes(batch.serialize()) for batch in rows.to_batches()),
    }
    found = read_result(tmp_path, contents, {HOT.address: [[1], [1], [1]]})
    assert isinstance(found, list)
    spooled = found[0].spooled[HOT.address]
    assert found[0].rows == {} and found[0].seen.num_rows == 1
    assert spooled.take(np.array([0, 2])).to_pylist() == [row for row in rows.to_pylist() if row["id"] != "b"]
    assert list(tmp_path.iterdir()) == []


def test_uploads_with_a_large_joint_result_are_read_individually(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "IN_MEMORY_MAX_BYTES", 0)
    (tmp_path / "result").write_bytes(bytes(SEEN.serialize()))
    assert read_answer(json.dumps(VALID).encode(), [tmp_path], "result", [1, 2], SPOOL) == (None, True)


def test_rows_that_cannot_be_spooled_raise_a_storage_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "IN_MEMORY_MAX_BYTES", 0)
    monkeypatch.setattr(f"{__name__}.SPOOL", tmp_path / "missing")
    contents = {"seen": bytes(SEEN.serialize()), HOT.address: bytes(hot_rows().serialize())}
    with pytest.raises(LocalStorageFailed):
        read_result(tmp_path, contents)


@pytest.mark.parametrize("address", ["seen", HOT.address])
def test_a_message_that_claims_too_many_bytes_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(protocol, "MESSAGE_MAX_BYTES" if address != "seen" else "SEEN_MAX_BYTES", 500)
    monkeypatch.setattr(protocol, "IN_MEMORY_MAX_BYTES", 0)
    contents = {"seen": bytes(SEEN.serialize()), HOT.address: bytes(hot_rows(text="x" * 1000).serialize())}
    outcome = (
        read_result(tmp_path, contents) if address != "seen" else read_result(tmp_path, {"seen": 3 * contents["seen"]})
    )
    assert isinstance(outcome, UploadRejected)
    assert "at most 500" in outcome.message


@pytest.mark.parametrize("rows", [[[1, 1]], [[0, 0]], [[2, -1]], [[1]], [], [["1", 0]], [[True, 0, 0]], 1])
def test_row_counts_that_do_not_add_up_are_rejected(tmp_path: Path, rows: object) -> None:
    assert isinstance(
        read_result(tmp_path, {"seen": bytes(SEEN.serialize())}, {"seen": rows}, uploads=2), UploadRejected
    )


def test_only_a_group_can_be_retried_individually(tmp_path: Path) -> None:
    assert read_answer(b'{"apart": ""}', [tmp_path], "result", [1, 2], SPOOL) == (None, True)
    outcome, healthy = read_answer(b'{"apart": ""}', [tmp_path], "result", [1], SPOOL)
    assert isinstance(outcome, UploadRejected) and not healthy


def test_a_null_in_a_required_column_is_rejected(tmp_path: Path) -> None:
    outcome = read_result(
        tmp_path, {"seen": bytes(SEEN.serialize()), HOT.address: bytes(hot_rows(id=None).serialize())}
    )
    assert isinstance(outcome, UploadRejected)
    assert "null id" in outcome.message


@pytest.mark.parametrize("end", [3, 40, -8, -70])
def test_a_truncated_result_is_rejected(tmp_path: Path, end: int) -> None:
    assert isinstance(read_result(tmp_path, {"seen": bytes(SEEN.serialize())[:end]}), UploadRejected)


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff\0\0\0\0", bytes(64), bytes(SEEN_SCHEMA.serialize())])
def test_a_result_that_is_not_a_record_batch_is_rejected(tmp_path: Path, data: bytes) -> None:
    assert isinstance(read_result(tmp_path, {"seen": data}), UploadRejected)


def test_a_batch_with_other_columns_is_rejected(tmp_path: Path) -> None:
    other = pa.RecordBatch.from_pydict({"kind": [1, 2, 3], "id": [b"\xff", b"\xfe", None]})
    assert isinstance(read_result(tmp_path, {"seen": bytes(other.serialize())}), UploadRejected)


def test_text_that_is_not_utf8_is_rejected(tmp_path: Path) -> None:
    wrong = pa.RecordBatch.from_arrays(
        [pa.array([b"\xff\xff"]).view(pa.string()), *SEEN.columns[1:]], schema=SEEN_SCHEMA
    )
    assert isinstance(read_result(tmp_path, {"seen": bytes(wrong.serialize())}), UploadRejected)


@pytest.mark.parametrize(
    "parts", [[["seen", 10**9, [[1]]]], [["seen", -1, []]], [["no such table", 1, []]], [], "parts"]
)
def test_parts_that_do_not_match_the_file_are_rejected(tmp_path: Path, parts: object) -> None:
    assert isinstance(read_result(tmp_path, {"seen": bytes(SEEN.serialize())}, parts=parts), UploadRejected)


VALID = {"parts": [["seen", len(bytes(SEEN.serialize())), [[1]]]], "on_disk": False, "counts": [[1, {}]], "seconds": {}}
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.sampled_from(["seen", HOT.address, "worker_memory"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "a", "rejected", ""]) | st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["parts", "on_disk", "counts", "seconds", "rejected", "message", "sample", "healthy", "trace", "apart"]
)


def is_valid_or_rejected(message: bytes, folder: Path) -> bool:
    """Whether an answer gives a result whose texts and numbers can be stored, or a rejection."""
    (folder / "result").write_bytes(bytes(SEEN.serialize()))
    outcome, _ = read_answer(message, [folder], "result", [7], SPOOL)
    if isinstance(outcome, UploadRejected):
        return b"\0" not in (outcome.message + outcome.sample).encode()
    assert outcome is not None
    json.dumps([outcome[0].flaws, outcome[0].seconds, outcome[0].rows_read], allow_nan=False).encode()
    return 0 <= outcome[0].rows_read < 1 << 53


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changed=st.dictionaries(KEYS, ANYTHING, max_size=4))
def test_any_json_answer_gives_a_result_or_a_rejection(tmp_path: Path, changed: dict[str, object]) -> None:
    assert is_valid_or_rejected(json.dumps(VALID | changed).encode(), tmp_path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=st.binary(max_size=300) | ANYTHING.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_give_a_result_or_a_rejection(tmp_path: Path, message: bytes) -> None:
    assert is_valid_or_rejected(message, tmp_path)


@pytest.mark.parametrize(
    "counts",
    [
        "[[Infinity, {}]]",
        "[[NaN, {}]]",
        "[[1e999, {}]]",
        "[[-1, {}]]",
        "[[true, {}]]",
        '[[1, {"odd": Infinity}]]',
        "[[1, []]]",
    ],
)
def test_a_count_that_is_not_an_integer_is_rejected(tmp_path: Path, counts: str) -> None:
    message = json.dumps(VALID).replace('"counts": [[1, {}]]', f'"counts": {counts}')
    (tmp_path / "result").write_bytes(bytes(SEEN.serialize()))
    outcome, healthy = read_answer(message.encode(), [tmp_path], "result", [7], SPOOL)
    assert isinstance(outcome, UploadRejected) and outcome.reason == "worker_crashed" and not healthy


@pytest.mark.parametrize(
    "message", [b"[" * 60_000, b'{"a":' * 10_000, b"9" * 5000, b"null", b"[]", b'"rejected"', b"\xff"]
)
def test_an_answer_that_is_not_an_object_is_rejected(tmp_path: Path, message: bytes) -> None:
    assert is_valid_or_rejected(message, tmp_path)
