"""Rows and columns of what answers show, from memory and from a file."""

import os
from pathlib import Path

import pyarrow as pa

from akosha_assets.lake.serving.parts.payload import FilePayload, Payload

TABLE = pa.table(
    {
        "id": ["a", "b", "c", "d", "e"],
        "text": ["", "zwölf", "third", "", "last 漢"],
        "tags": [["x"], None, [], ["y", "z"], None],
    }
)


def _filed(table: pa.Table, folder: Path, chunk_rows: int) -> FilePayload:
    path = folder / "payload.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=chunk_rows)
    with path.open("rb") as file:
        payload = FilePayload(file)
    path.unlink()
    return payload


def test_a_file_payload_returns_the_rows_of_the_payload_in_memory(tmp_path: Path) -> None:
    in_memory = Payload(TABLE)
    for chunk_rows in (1, 2, 5):
        filed = _filed(TABLE, tmp_path, chunk_rows)
        for payload in (filed, in_memory):
            assert [
                payload.without_text(row) | {"text": payload.value("text", row)} for row in range(5)
            ] == TABLE.to_pylist()
        assert filed.select(["text", "tags"]).equals(TABLE.select(["text", "tags"]))
        assert filed.tags().equals(TABLE["tags"])


def test_empty_texts_are_read_from_a_file(tmp_path: Path) -> None:
    filed = _filed(pa.table({"text": ["", ""], "tags": pa.nulls(2, pa.list_(pa.string()))}), tmp_path, 2)
    assert [filed.value("text", row) for row in range(2)] == ["", ""]


def test_a_file_is_closed_with_its_payload(tmp_path: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    filed = _filed(TABLE, tmp_path, 2)
    assert filed.value("text", 1) == "zwölf"
    del filed
    assert len(os.listdir("/dev/fd")) == before
