"""One uploaded file, gzip or raw, written out under bounds. All-zero pages become holes: most of a small database is
zero.

Works on an open descriptor, in the sandboxed worker; knows nothing of databases.
"""

import os
import struct
from pathlib import Path

import numpy as np
from isal import igzip_lib

from akosha_assets.lake.errors import UploadRejected

GZIP_MAGIC = b"\x1f\x8b"
PAGE_BYTES = 4096
# Fits the processor's cache with what inflating needs besides.
CHUNK_BYTES = 512 * 1024
# The length in a gzip trailer counts modulo this.
TRAILER_MODULUS = 1 << 32


def raw_size_hint(descriptor: int) -> int:
    """Bytes the file will have when unpacked, as its trailer claims; its own size when it is not gzip."""
    size = os.fstat(descriptor).st_size
    if size < 18 or os.pread(descriptor, 2, 0) != GZIP_MAGIC:
        return size
    return int(struct.unpack("<I", os.pread(descriptor, 4, size - 4))[0])


def unpack(descriptor: int, name: str, target: Path, *, max_bytes: int) -> int:
    """Writes the unpacked bytes to `target` and returns their number.

    Raises: UploadRejected when they are more than `max_bytes` or the gzip stream is damaged or followed by anything.
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
    claimed = raw_size_hint(descriptor)
    if compressed < 18:
        raise UploadRejected("gzip_damaged", f"{name}: {compressed} bytes are too few for a gzip file")
    # A trailer that claims less than there is fails the stream's own check, so a bomb costs no more than it admits to.
    # One that claims too much may be the middle of a file that was cut off, which only reading it tells.
    ceiling = min(claimed, max_bytes) if max_bytes < TRAILER_MODULUS else max_bytes
    stream = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    size, read = 0, 0
    try:
        while not stream.eof:
            given = b""
            if stream.needs_input:
                given = os.pread(descriptor, CHUNK_BYTES, read)
                if not given:
                    raise UploadRejected(
                        "gzip_damaged", f"{name}: the gzip stream ends after {read} bytes without its trailer"
                    )
                read += len(given)
            block = stream.decompress(given, CHUNK_BYTES)
            if size + len(block) > max_bytes:
                raise _too_large(name, max_bytes)
            if size + len(block) > ceiling:
                raise UploadRejected(
                    "gzip_damaged", f"{name}: unpacks to more than the {claimed} bytes its trailer names"
                )
            _write_sparse(out, block, size)
            size += len(block)
    except igzip_lib.error as error:  # type: ignore[misc]  # its stub declares an instance
        raise UploadRejected("gzip_damaged", f"{name}: {error}") from error
    if stream.unused_data or read < compressed:
        raise UploadRejected("gzip_damaged", f"{name}: something follows the end of the gzip stream")
    if size % TRAILER_MODULUS != claimed:
        raise UploadRejected("gzip_damaged", f"{name}: unpacks to {size} bytes, its trailer names {claimed}")
    return size


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
    whole = len(block) // PAGE_BYTES * PAGE_BYTES
    view = memoryview(block)
    if whole:
        filled = (
            np.bitwise_or.reduce(
                np.frombuffer(block, dtype=np.uint64, count=whole // 8).reshape(-1, PAGE_BYTES // 8), axis=1
            )
            != 0
        )
        # Pages before which filled ones begin or end, in turn.
        edges = [0, *((filled[1:] != filled[:-1]).nonzero()[0] + 1).tolist(), len(filled)]
        for place in range(0 if filled[0] else 1, len(edges) - 1, 2):
            first, last = edges[place] * PAGE_BYTES, edges[place + 1] * PAGE_BYTES
            _write(out, view[first:last], offset + first)
    if whole < len(block):
        _write(out, view[whole:], offset + whole)


def _write(out: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(out, view, offset)
        view, offset = view[written:], offset + written


def _too_large(name: str, max_bytes: int) -> UploadRejected:
    return UploadRejected("file_too_large_raw", f"{name}: larger than {max_bytes} bytes after decompression")
