"""What a replica keeps on disk between two lives: mapped parts, and a state that says what lies in its folder.

Everything here is a cache of the tables. Each file has its CRC-32 in the state; one that does not agree is not served,
and what it held is read from the tables again.
"""

import fcntl
import json
import logging
import math
import os
import shutil
import zlib
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import duckdb
import faiss
import numpy as np
import pyarrow as pa

from akosha_assets.lake.serving.inverted_file import InvertedFile
from akosha_assets.lake.serving.layouts import Layouts
from akosha_assets.lake.serving.parts import CODED, Part
from akosha_assets.lake.serving.payload import FilePayload, Payload
from akosha_assets.lake.serving.segments import Segment
from akosha_assets.lake.serving.vectors import Vectors

logger = logging.getLogger(__name__)

# Changes when the meaning of what lies on disk changes; identity hashes are DuckDB's and change with it.
FORMAT = f"10/duckdb-{duckdb.__version__}/faiss-{faiss.__version__}"
CHUNK_BYTES = 1 << 22
BATCH_ROWS = 65_536
# The payload of smaller parts stays in memory: they are soon joined.
FILE_ROWS = 20_000
ARRAYS = ("numbers", "identity", "content", "written", "occurred_us", "arrived_us", "importance")


@dataclass
class State:
    """What lies in a replica's folder. `numbered` has, by tier, each file in the keyword index: first number, end, day."""

    format: str = FORMAT
    next_number: int = 1
    terms: dict[str, list[str]] = field(default_factory=dict)
    numbered: dict[str, dict[str, tuple[int, int, str]]] = field(default_factory=dict)
    parts: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    keywords: dict[str, int] = field(default_factory=dict)


def write_state(folder: Path, state: State) -> None:
    """The state in `folder` is this one, or after a crash the one before."""
    part = folder / "state.json.part"
    held = json.dumps(asdict(state))
    part.write_text(f"{zlib.crc32(held.encode())}\n{held}")
    part.replace(folder / "state.json")


def read_state(folder: Path) -> State | None:
    """The state in `folder`; None where there is none or another version of the code wrote it."""
    try:
        checksum, _, text = (folder / "state.json").read_text(errors="replace").partition("\n")
    except FileNotFoundError:
        return None
    if checksum != str(zlib.crc32(text.encode())):
        logger.warning("the state of the serving cache is damaged; it is built again", extra={"folder": str(folder)})
        return None
    held = json.loads(text)
    return State(**held) if held["format"] == FORMAT else None


def checksum(path: Path) -> int:
    """CRC-32 of a file."""
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            value = zlib.crc32(chunk, value)
    return value


def checksums(folder: Path, known: dict[str, int]) -> dict[str, int]:
    """CRC-32 by name of the files in `folder`; for those in `known` the value it has."""
    return {path.name: known.get(path.name) or checksum(path) for path in sorted(folder.iterdir()) if path.is_file()}


def is_sound(folder: Path, expected: dict[str, int]) -> bool:
    """Every expected file lies in `folder` with the bytes it was written with."""
    for name, value in expected.items():
        path = folder / name
        if not path.is_file() or checksum(path) != value:
            logger.warning("a file of the serving cache is damaged; what it held is built again", extra={"path": str(path)})
            return False
    return True


def laid_down(part: Part, parent: Path, layouts: Layouts) -> Part:
    """The same part with its bytes in files of a folder under `parent`, mapped when touched."""
    folder = parent / f"{part.day}-{part.numbers[0]}-{len(part)}"
    work = parent / f".{folder.name}.part"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    payload = part.payload.whole()
    with pa.OSFile(str(work / "payload.arrow"), "wb") as sink, pa.ipc.new_file(sink, payload.schema) as writer:
        writer.write_table(payload, max_chunksize=BATCH_ROWS)
    for name in ARRAYS:
        np.save(work / f"{name}.npy", getattr(part, name))
    for name in CODED:
        np.save(work / f"code-{name}.npy", part.codes[name])
    spaces = []
    for number, (space, held) in enumerate(part.vectors.items()):
        held = held.indexed(space, layouts)
        np.save(work / f"rows-{number}.npy", held.rows)
        np.save(work / f"matrix-{number}.npy", held.matrix)
        if held.scale is not None:
            np.save(work / f"scale-{number}.npy", held.scale)
        if held.index is not None:
            held.index.alone().write(work / f"index-{number}.faiss")
        spaces.append([space, held.form])
    (work / "spaces.json").write_text(json.dumps(spaces))
    shutil.rmtree(folder, ignore_errors=True)
    work.replace(folder)
    return mapped(folder, part.day)


def with_filed_payload(part: Part, parent: Path) -> Part:
    """The same part with its payload in a file below `parent` that has no name and ends with the part: what answers show of a few
    rows need not lie in memory for all.
    """
    if isinstance(part.payload, FilePayload) or len(part) < FILE_ROWS:
        return part
    parent.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=parent) as file:
        payload = part.payload.whole()
        with pa.ipc.new_file(file, payload.schema) as writer:
            writer.write_table(payload)
        file.flush()
        return replace(part, payload=FilePayload(file))


def mapped(folder: Path, day: date) -> Part:
    """The part that `laid_down` wrote, of which only what is touched is read."""

    def array(name: str) -> np.ndarray:
        return _mapped_array(folder / f"{name}.npy")

    with pa.memory_map(str(folder / "payload.arrow")) as source:
        payload = Payload(pa.ipc.open_file(source).read_all())
    vectors = {}
    for number, (space, form) in enumerate(json.loads((folder / "spaces.json").read_text())):
        scale = array(f"scale-{number}") if (folder / f"scale-{number}.npy").exists() else None
        index = folder / f"index-{number}.faiss"
        vectors[space] = Vectors(
            array(f"rows-{number}"),
            array(f"matrix-{number}"),
            form,
            scale,
            Segment(InvertedFile.read(index, is_mapped=True)) if index.exists() else None,
        )
    numbers, identity, content, written, occurred_us, arrived_us, importance = (array(name) for name in ARRAYS)
    codes = {name: array(f"code-{name}") for name in CODED}
    return Part(day, numbers, identity, content, written, codes, occurred_us, arrived_us, importance, payload, vectors, folder)


def _mapped_array(path: Path) -> np.ndarray:
    """The array in an `.npy` file. `np.load` would hold a file descriptor for each, and a year of days has thousands."""
    with pa.memory_map(str(path)) as source:
        held = source.read_buffer()
    reader = pa.BufferReader(held)
    np.lib.format.read_magic(reader)
    shape, _, dtype = np.lib.format.read_array_header_1_0(reader)
    return np.frombuffer(held, dtype, count=math.prod(shape), offset=reader.tell()).reshape(shape)


def own_folder(root: Path) -> tuple[Path, int]:
    """A folder that no other live process uses, and the lock that keeps it ours."""
    root.mkdir(parents=True, exist_ok=True)
    for number in range(1000):
        lock = os.open(root / f"{number}.lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        folder = root / str(number)
        folder.mkdir(exist_ok=True)
        return folder, lock
    raise RuntimeError(f"a thousand processes use {root}; expected fewer, or another AKOSHA_HOME")
