"""What a worker hands back is used only when it is exactly what a sound worker gives."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.ingestion.differences import SEEN_SCHEMA
from akosha_assets.lake.ingestion.results import Extraction, read_answer
from akosha_assets.lake.schemas import HOT, extracted

SEEN = pa.RecordBatch.from_pylist([{"kind": "reflection", "id": "R1", "content_hash": 1}], schema=SEEN_SCHEMA)


def answered(folder: Path, contents: dict[str, bytes], **changed: object) -> Extraction | UploadRejected:
    (folder / "result").write_bytes(b"".join(contents.values()))
    lengths = [[address, len(data)] for address, data in contents.items()]
    answer = {"parts": lengths, "on_disk": False, "rows_read": 1, "flaws": {}, "seconds": {}, **changed}
    outcome, healthy = read_answer(json.dumps(answer).encode(), [folder], "result", 7)
    assert healthy is isinstance(outcome, Extraction)
    return outcome


def hot_rows(**values: object) -> pa.RecordBatch:
    schema = extracted(HOT)
    filled = {pa.string(): "x", pa.int64(): 1, pa.int32(): 1, pa.date32(): date(2026, 1, 1), pa.binary(): b"x"}
    row = {field.name: filled.get(field.type, datetime(2026, 1, 1, tzinfo=UTC)) for field in schema if not field.nullable}
    return pa.RecordBatch.from_pylist([row | values], schema=pa.schema([field.with_nullable(True) for field in schema]))


def test_batches_of_several_tables_come_back_as_they_were(tmp_path: Path) -> None:
    hot = hot_rows()
    outcome = answered(tmp_path, {"seen": bytes(SEEN.serialize()), HOT.address: 2 * bytes(hot.serialize())})
    assert isinstance(outcome, Extraction)
    assert outcome.seen.to_pylist() == SEEN.to_pylist()
    assert outcome.rows[HOT.address].to_pylist() == 2 * hot.to_pylist()
    assert outcome.rows[HOT.address].schema == extracted(HOT)


def test_a_null_where_none_may_be_is_refused(tmp_path: Path) -> None:
    outcome = answered(tmp_path, {"seen": bytes(SEEN.serialize()), HOT.address: bytes(hot_rows(id=None).serialize())})
    assert isinstance(outcome, UploadRejected)
    assert "null id" in outcome.message


@pytest.mark.parametrize("end", [3, 40, -8, -70])
def test_a_result_that_is_cut_off_is_refused(tmp_path: Path, end: int) -> None:
    assert isinstance(answered(tmp_path, {"seen": bytes(SEEN.serialize())[:end]}), UploadRejected)


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff\0\0\0\0", bytes(64), bytes(SEEN_SCHEMA.serialize())])
def test_what_is_no_batch_is_refused(tmp_path: Path, data: bytes) -> None:
    assert isinstance(answered(tmp_path, {"seen": data}), UploadRejected)


def test_rows_of_other_columns_are_refused(tmp_path: Path) -> None:
    other = pa.RecordBatch.from_pydict({"kind": [1, 2, 3], "id": [b"\xff", b"\xfe", None]})
    assert isinstance(answered(tmp_path, {"seen": bytes(other.serialize())}), UploadRejected)


def test_text_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    wrong = pa.RecordBatch.from_arrays([pa.array([b"\xff\xff"]).view(pa.string()), *SEEN.columns[1:]], schema=SEEN_SCHEMA)
    assert isinstance(answered(tmp_path, {"seen": bytes(wrong.serialize())}), UploadRejected)


@pytest.mark.parametrize("parts", [[["seen", 10**9]], [["seen", -1]], [["no such table", 1]], [], "parts"])
def test_parts_that_do_not_fit_are_refused(tmp_path: Path, parts: object) -> None:
    assert isinstance(answered(tmp_path, {"seen": bytes(SEEN.serialize())}, parts=parts), UploadRejected)
