"""Writes one uploaded file, gzip or raw, to disk up to a size limit. All-zero pages become holes: most of a small
database is zero.

Accepts what `gzip -dc` accepts: several concatenated members, empty members, zero padding at the end. Works on an open
descriptor in the sandboxed worker and knows nothing about databases.
"""

import os
import struct
from pathlib import Path

import numpy as np
from isal import igzip_lib

from akosha_assets.lake.errors import UploadRejected

GZIP_MAGIC = b"\x1f\x8b"
PAGE_BYTES = 4096
# Fits into the processor cache together with the state of the decompressor.
CHUNK_BYTES = 512 * 1024
# Bytes read at the start of a member. Block compressors write members of 64 KiB; bytes read beyond one are read again.
FIRST_CHUNK_BYTES = 64 * 1024
GZIP_MIN_BYTES = 18


def raw_size_hint(descriptor: int) -> int:
    """Returns the unpacked size that the last gzip trailer claims, or the size of a file that is not gzip.

    Only a hint: the trailer may be wrong, and it describes only the last of several members.
    """
    size = os.fstat(descriptor).st_size
    if size < GZIP_MIN_BYTES or os.pread(descriptor, 2, 0) != GZIP_MAGIC:
        return size
    return int(struct.unpack("<I", os.pread(descriptor, 4, size - 4))[0])


def unpack(descriptor: int, name: str, target: Path, *, max_bytes: int) -> int:
    """Writes the unpacked bytes to `target` and returns their number.

    Raises: UploadRejected if there are more than `max_bytes`, or the gzip file is damaged or followed by other bytes.
    """
    out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        size = (
            _inflate(descriptor, name, out, max_bytes)
            if os.pread(descriptor, 2, 0) == GZIP_MAGIC
            else _copy(descriptor, name, out, max_bytes)
        )
        os.ftruncate(out, size)
    finally:
        os.close(out)
    return size


def _inflate(descriptor: int, name: str, out: int, max_bytes: int) -> int:
    compressed = os.fstat(descriptor).st_size
    if compressed < GZIP_MIN_BYTES:
        raise UploadRejected("gzip_damaged", f"{name}: {compressed} bytes are too few for a gzip file")
    size = start = 0
    while True:
        size, start = _inflate_member(descriptor, name, out, size, start, max_bytes)
        if start == compressed or _is_padding(descriptor, start):
            return size
        if os.pread(descriptor, 2, start) != GZIP_MAGIC:
            raise UploadRejected(
                "gzip_damaged",
                f"{name}: other bytes follow the end of the gzip data at byte {start}; expected another gzip member or "
                "zeros",
            )


def _inflate_member(descriptor: int, name: str, out: int, size: int, start: int, max_bytes: int) -> tuple[int, int]:
    """Appends the gzip member that begins at `start` to the `size` bytes of `out`.

    The decompressor checks the member against its checksum and length. Returns the new size and the end of the member.
    """
    stream = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    position = start
    try:
        while not stream.eof:
            chunk = b""
            if stream.needs_input:
                chunk = os.pread(descriptor, FIRST_CHUNK_BYTES if position == start else CHUNK_BYTES, position)
                if not chunk:
                    raise UploadRejected(
                        "gzip_damaged", f"{name}: the gzip stream ends after {position} bytes without its trailer"
                    )
                position += len(chunk)
            block = stream.decompress(chunk, CHUNK_BYTES)
            if size + len(block) > max_bytes:
                raise _too_large(name, max_bytes)
            _write_sparse(out, block, size)
            size += len(block)
    except igzip_lib.error as error:  # type: ignore[misc]  # its stub declares an instance
        raise UploadRejected("gzip_damaged", f"{name}: {error}") from error
    return size, position - len(stream.unused_data)


def _is_padding(descriptor: int, start: int) -> bool:
    """Whether all bytes from `start` on are zero."""
    length = 1
    while chunk := os.pread(descriptor, length, start):
        if chunk.strip(b"\0"):
            return False
        start, length = start + len(chunk), CHUNK_BYTES
    return True


def _copy(descriptor: int, name: str, out: int, max_bytes: int) -> int:
    total = os.fstat(descriptor).st_size
    if total > max_bytes:
        raise _too_large(name, max_bytes)
    size = 0
    while block := os.pread(descriptor, CHUNK_BYTES, size):
        _write_sparse(out, block, size)
        size += len(block)
        if size > max_bytes:
            raise _too_large(name, max_bytes)
    return size


def _write_sparse(out: int, block: bytes, offset: int) -> None:
    paged = len(block) // PAGE_BYTES * PAGE_BYTES
    view = memoryview(block)
    if paged:
        filled = (
            np.bitwise_or.reduce(
                np.frombuffer(block, dtype=np.uint64, count=paged // 8).reshape(-1, PAGE_BYTES // 8), axis=1
            )
            != 0
        )
        # Pages at which runs of filled and empty pages begin.
        edges = [0, *((filled[1:] != filled[:-1]).nonzero()[0] + 1).tolist(), len(filled)]
        for place in range(0 if filled[0] else 1, len(edges) - 1, 2):
            first, last = edges[place] * PAGE_BYTES, edges[place + 1] * PAGE_BYTES
            _write(out, view[first:last], offset + first)
    if paged < len(block):
        _write(out, view[paged:], offset + paged)


def _write(out: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(out, view, offset)
        view, offset = view[written:], offset + written


def _too_large(name: str, max_bytes: int) -> UploadRejected:
    return UploadRejected("file_too_large_raw", f"{name}: larger than {max_bytes} bytes after decompression")
