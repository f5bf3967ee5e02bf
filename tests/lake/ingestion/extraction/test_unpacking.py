"""Unpacking accepts what `gzip -dc` accepts, up to its limit."""

import gzip
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.ingestion.extraction import unpacking
from akosha_assets.lake.ingestion.extraction.unpacking import PAGE_BYTES, unpack

CONTENT = b"DUCK" * 3000 + bytes(3 * PAGE_BYTES) + b"end"


def unpack_bytes(folder: Path, data: bytes, *, max_bytes: int = 10**6) -> bytes:
    source, target = folder / "source", folder / "target"
    source.write_bytes(data)
    descriptor = os.open(source, os.O_RDONLY)
    try:
        size = unpack(descriptor, "file", target, max_bytes=max_bytes)
    finally:
        os.close(descriptor)
    content = target.read_bytes()
    assert size == len(content)
    return content


@pytest.mark.parametrize(
    "data",
    [
        CONTENT,
        gzip.compress(CONTENT),
        gzip.compress(CONTENT, 0),
        gzip.compress(CONTENT[:5000]) + gzip.compress(CONTENT[5000:]),
        gzip.compress(b"") + gzip.compress(CONTENT) + gzip.compress(b""),
        gzip.compress(CONTENT) + bytes(600_000),
        b"".join(gzip.compress(CONTENT[start : start + 100]) for start in range(0, len(CONTENT), 100)),
    ],
    ids=["raw", "one member", "stored", "two members", "empty members", "zero padding", "many members"],
)
def test_unpacking_gives_the_same_bytes_as_gzip(tmp_path: Path, data: bytes) -> None:
    assert unpack_bytes(tmp_path, data) == CONTENT
    if data.startswith(unpacking.GZIP_MAGIC):
        assert subprocess.run(["gzip", "-dc"], input=data, capture_output=True, check=True).stdout == CONTENT


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (gzip.compress(CONTENT) + b"garbage", "gzip_damaged"),
        (gzip.compress(CONTENT) + bytes(100) + b"garbage", "gzip_damaged"),
        (gzip.compress(CONTENT) + bytes(100) + gzip.compress(CONTENT), "gzip_damaged"),
        (gzip.compress(CONTENT) + gzip.compress(CONTENT)[:-9], "gzip_damaged"),
        (gzip.compress(CONTENT) * 100, "file_too_large_raw"),
    ],
    ids=["garbage", "garbage after zeros", "a member after zeros", "truncated member", "too large together"],
)
def test_damaged_and_too_large_files_are_rejected(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(UploadRejected, match=reason):
        unpack_bytes(tmp_path, data)
    written = (tmp_path / "target").stat().st_size
    assert written <= 10**6


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=300).map(gzip.compress), min_size=1, max_size=4), st.binary(max_size=20))
def test_any_members_with_any_tail_are_unpacked_or_rejected(
    tmp_path_factory: pytest.TempPathFactory, members: list[bytes], tail: bytes
) -> None:
    data = b"".join(members) + tail
    try:
        content = unpack_bytes(tmp_path_factory.mktemp("any"), data)
    except UploadRejected as rejection:
        assert rejection.reason == "gzip_damaged"
        assert tail.strip(b"\0")
    else:
        assert content == b"".join(map(gzip.decompress, members))
