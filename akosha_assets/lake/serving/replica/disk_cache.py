"""The files of a replica's cache: parts, and a state that lists the files.

The state has the CRC-32 of every file. A file that does not match is not served; its rows are read from the tables.
"""

import json
import logging
import math
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

from akosha_assets.lake.serving.parts.part import CODED, Part
from akosha_assets.lake.serving.parts.payload import FilePayload, Payload
from akosha_assets.lake.serving.vectors.inverted_file import InvertedFile
from akosha_assets.lake.serving.vectors.merging import Segment
from akosha_assets.lake.serving.vectors.quantizer import CoarseQuantizers
from akosha_assets.lake.serving.vectors.vector_set import VectorSet

logger = logging.getLogger(__name__)

# Changes with the meaning of the files; identity hashes are DuckDB's and change with its version.
FORMAT = f"15/duckdb-{duckdb.__version__}/faiss-{faiss.__version__}"
CHUNK_BYTES = 1 << 22
BATCH_ROWS = 65_536
# The payload of smaller parts stays in memory, since they are soon merged.
FILE_ROWS = 20_000
# A smaller part is read and not mapped: a lake of many small days must not use up the mappings that a process may have
# (`vm.max_map_count`), and a larger part has one for its arrays, one for its payload and one for each index.
MAPPED_ROWS = 4096
ALIGNMENT_BYTES = 64
ARRAYS_FILE = "arrays.bin"
ARRAYS = ("row_ids", "identity", "content", "written", "occurred_us", "arrived_us", "importance", "coverage")


@dataclass
class CacheState:
    """The content of a cache folder. `indexed` has by tier the files in the keyword index: first row id, end, day."""

    format: str = FORMAT
    next_row_id: int = 1
    terms: dict[str, list[str]] = field(default_factory=dict)
    indexed: dict[str, dict[str, tuple[int, int, str]]] = field(default_factory=dict)
    parts: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    keywords: dict[str, int] = field(default_factory=dict)
    # By tier and path of a file: identity hashes of the rows that are set aside, and the reason.
    rows_left_out: dict[str, dict[str, tuple[tuple[int, ...], str]]] = field(default_factory=dict)
    # By tier and path of a file: how many of its rows could not be indexed.
    unindexed_rows: dict[str, dict[str, int]] = field(default_factory=dict)
    # Version of the analysis by which the keyword index split its texts into words.
    analysis: str = ""


def write_state(folder: Path, state: CacheState) -> None:
    """Store the state in `folder` atomically: after a crash it has this state or the one before."""
    part = folder / "state.json.part"
    held = json.dumps(asdict(state))
    part.write_text(f"{zlib.crc32(held.encode())}\n{held}")
    part.replace(folder / "state.json")


def read_state(folder: Path) -> CacheState | None:
    """The state in `folder`; None if there is none, it is damaged, or another version of Akosha wrote it."""
    try:
        checksum, _, text = (folder / "state.json").read_text(errors="replace").partition("\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.warning("the state of the serving cache cannot be read; it is built again", extra={"cause": str(error)})
        return None
    if checksum != str(zlib.crc32(text.encode())):
        logger.warning(
            "the state of the serving cache is damaged; the cache is built again", extra={"folder": str(folder)}
        )
        return None
    held = json.loads(text)
    return CacheState(**held) if held["format"] == FORMAT else None


def checksum(path: Path) -> int:
    """CRC-32 of a file."""
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            value = zlib.crc32(chunk, value)
    return value


def checksums(folder: Path, known: dict[str, int]) -> dict[str, int]:
    """CRC-32 of the files in `folder` by name; that of a file in `known` is taken from there."""
    return {path.name: known.get(path.name) or checksum(path) for path in sorted(folder.iterdir()) if path.is_file()}


def is_sound(folder: Path, expected: dict[str, int]) -> bool:
    """Whether `folder` has every expected file with its checksum."""
    for name, value in expected.items():
        path = folder / name
        try:
            if path.is_file() and checksum(path) == value:
                continue
        except OSError as error:
            logger.warning("a file of the serving cache cannot be read", extra={"cause": str(error)})
        logger.warning("a file of the serving cache is damaged; its content is built again", extra={"path": str(path)})
        return False
    return True


def write_part(part: Part, parent: Path, quantizers: CoarseQuantizers) -> Part:
    """Write a part to a folder under `parent`. Returns the part backed by these files.

    Raises: OSError or RuntimeError if it cannot be written; its files are deleted then.
    """
    folder = parent / f"{part.day}-{part.row_ids[0]}-{len(part)}"
    work = parent / f".{folder.name}.part"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        _write_files(part, work, quantizers)
        shutil.rmtree(folder, ignore_errors=True)
        work.replace(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return map_part(folder, part.day)


def _write_files(part: Part, folder: Path, quantizers: CoarseQuantizers) -> None:
    payload = part.payload.whole()
    with pa.OSFile(str(folder / "payload.arrow"), "wb") as sink, pa.ipc.new_file(sink, payload.schema) as writer:
        writer.write_table(payload, max_chunksize=BATCH_ROWS)
    arrays = {name: getattr(part, name) for name in ARRAYS} | {f"code-{name}": part.codes[name] for name in CODED}
    spaces = []
    for number, (space, vector_set) in enumerate(part.vectors.items()):
        vector_set = vector_set.with_index(space, quantizers)
        arrays |= {f"rows-{number}": vector_set.rows, f"matrix-{number}": vector_set.matrix}
        if vector_set.scale is not None:
            arrays[f"scale-{number}"] = vector_set.scale
        if vector_set.passages is not None:
            arrays[f"passages-{number}"] = vector_set.passages
        if vector_set.index is not None:
            vector_set.index.own_file().write(folder / f"index-{number}.faiss")
        spaces.append([space, vector_set.form])
    _write_arrays(folder / ARRAYS_FILE, arrays)
    (folder / "spaces.json").write_text(json.dumps(spaces))


def move_payload_to_file(part: Part, parent: Path) -> Part:
    """The part with its payload in an unnamed file under `parent`, which is deleted with the part.

    Answers need the payload of a few rows only, so it need not be in memory.
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


def map_part(folder: Path, day: date) -> Part:
    """The part that `write_part` wrote. A large part is mapped, so that only touched pages are read."""
    arrays = _read_arrays(folder / ARRAYS_FILE)
    with _opened(folder / "payload.arrow", is_mapped=len(arrays["row_ids"]) >= MAPPED_ROWS) as source:
        payload = Payload(pa.ipc.open_file(source).read_all())
    vectors = {}
    for number, (space, form) in enumerate(json.loads((folder / "spaces.json").read_text())):
        index = folder / f"index-{number}.faiss"
        segment = Segment(InvertedFile.read(index, is_mapped=True)) if index.exists() else None
        vectors[space] = VectorSet(
            arrays[f"rows-{number}"],
            arrays[f"matrix-{number}"],
            form,
            arrays.get(f"scale-{number}"),
            segment,
            arrays.get(f"passages-{number}"),
        )
    codes = {name: arrays[f"code-{name}"] for name in CODED}
    columns: dict[str, Any] = {name: arrays[name] for name in ARRAYS}
    return Part(day=day, codes=codes, payload=payload, vectors=vectors, folder=folder, **columns)


def _opened(path: Path, *, is_mapped: bool) -> pa.NativeFile:
    return pa.memory_map(str(path)) if is_mapped else pa.OSFile(str(path))


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays to one file: a line of JSON with the dtype, shape and offset of each, then their bytes."""
    places, offset = {}, 0
    for name, array in arrays.items():
        places[name] = (array.dtype.str, array.shape, offset)
        offset += -(-array.nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    header = json.dumps(places).encode()
    header += b" " * (-(len(header) + 1) % ALIGNMENT_BYTES) + b"\n"
    with path.open("wb") as file:
        file.write(header)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array).data)
            file.write(b"\0" * (-array.nbytes % ALIGNMENT_BYTES))


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, as views of one buffer, which is mapped for a large part."""
    with path.open("rb") as file:
        header = file.readline()
    places = json.loads(header)
    with _opened(path, is_mapped=places["row_ids"][1][0] >= MAPPED_ROWS) as source:
        held = source.read_buffer()
    return {
        name: np.frombuffer(held, dtype, count=math.prod(shape), offset=len(header) + offset).reshape(shape)
        for name, (dtype, shape, offset) in places.items()
    }
