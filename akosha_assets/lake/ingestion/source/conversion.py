"""Turns a batch of source columns, as `queries.py` reads them, into rows of the table of its kind.

Works on changed rows only. Flaws that do not stop a row are reported by code and row position.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.flaws import Flaw
from akosha_assets.lake.ingestion.source.fingerprints import HASHES, Fingerprints
from akosha_assets.lake.ingestion.source.json_columns import objects
from akosha_assets.lake.ingestion.source.queries import Field, Role
from akosha_assets.lake.row_rules import repair
from akosha_assets.lake.schemas import TABLE_OF_KIND, TABLES, extracted
from akosha_assets.lake.table_spec import bare

VECTOR_NUMBERS = 384
ID_MAX_BYTES = 1024
ENCODED_TEXT = "__SB64__"
# The source truncates longer texts to this and marks their end.
TRUNCATED, TRUNCATED_CHARACTERS = "[TRUNCATED]", 65_536


# Called with a flaw and the positions of the rows that have it: (flawed rows,) int64.
OnFlaw = Callable[[Flaw, np.ndarray], None]

# Without column comments, which would be sent with every result.
SCHEMA_OF_KIND = {kind: bare(extracted(TABLES[address])) for kind, address in TABLE_OF_KIND.items()}
# Names and types, which a schema rebuilds at each access.
_COLUMNS_OF_KIND = {
    kind: tuple(zip(schema.names, schema.types, strict=True)) for kind, schema in SCHEMA_OF_KIND.items()
}


def check_fields(batch: pa.RecordBatch, fields: tuple[Field, ...], *, table: str, max_field_bytes: int) -> None:
    """Raises: UploadRejected for a field larger than the bound."""
    # The size of the buffers is an upper bound and a hundred times faster to compute.
    if batch.get_total_buffer_size() <= max_field_bytes:
        return
    for place, field in enumerate(fields):
        column = batch.column(place)
        if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
            longest = pc.max(pc.binary_length(column)).as_py() or 0
            if longest > max_field_bytes:
                raise UploadRejected(
                    "field_too_large",
                    f"{field.name} in table {table[:80]} holds {longest} bytes; at most {max_field_bytes} are read",
                )


def is_utf8(texts: pa.Array) -> bool:
    """Whether every text is valid UTF-8; DuckDB does not check when it reads a file."""
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def replace_invalid_utf8(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Returns the batch with U+FFFD in place of bytes that are not UTF-8."""
    for place, column in enumerate(batch.columns):
        if pa.types.is_string(column.type) and not is_utf8(column):
            values = [
                None if value is None else value.decode("utf-8", "replace")
                for value in column.cast(pa.binary()).to_pylist()
            ]
            batch = batch.set_column(place, batch.schema.names[place], pa.array(values, pa.string()))
        elif pa.types.is_list(column.type) and not is_utf8(column.flatten()):
            lists = column.cast(pa.list_(pa.binary())).to_pylist()
            values = [
                None if items is None else [None if one is None else one.decode("utf-8", "replace") for one in items]
                for items in lists
            ]
            batch = batch.set_column(place, batch.schema.names[place], pa.array(values, column.type))
    return batch


def decode_texts(texts: pa.Array) -> pa.Array:
    """Returns the texts, with those that begin with `__SB64__` decoded from base64."""
    if not pc.any(pc.starts_with(texts, ENCODED_TEXT)).as_py():
        return texts
    return pa.array([_decode(text) for text in texts.to_pylist()], pa.string())


def _decode(text: str | None) -> str | None:
    if text is None or not text.startswith(ENCODED_TEXT):
        return text
    try:
        raw = base64.b64decode(text.removeprefix(ENCODED_TEXT), validate=True).decode("utf-8", "surrogatepass")
    except ValueError:
        # Not base64, not ASCII, or not UTF-8 once decoded.
        return text
    # Surrogate pairs become their character, lone surrogates U+FFFD.
    return raw.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@dataclass(frozen=True)
class Origin:
    """Values that all rows of one source table share."""

    kind: str
    source_table: str
    parser_version: int


def to_rows(
    batch: pa.RecordBatch,
    fields: tuple[Field, ...],
    origin: Origin,
    derived: dict[str, pa.Array],
    *,
    fingerprints: Fingerprints,
    flaw: OnFlaw,
) -> pa.RecordBatch:
    """Returns the rows of the batch in the schema of their kind's table, with invalid cells repaired.

    `derived`: columns computed elsewhere, by name, each (rows,): ids, hashes, times, JSON objects.
    """
    rows = batch.num_rows
    columns = _selected_columns(batch, fields, flaw) | derived
    if "text" in columns:
        columns["text"] = _texts(columns["text"], flaw)
        columns["fingerprint"] = _fingerprints(columns.get("fingerprint"), columns["text"], fingerprints, flaw)
    constants = vars(origin)
    arrays = []
    for name, kind in _COLUMNS_OF_KIND[origin.kind]:
        if (column := columns.get(name)) is not None:
            arrays.append(column if column.type == kind else column.cast(kind, safe=False))
        elif name in constants:
            arrays.append(pa.repeat(pa.scalar(constants[name], kind), rows))
        else:
            arrays.append(nulls(rows, kind))
    repaired, flaws = repair(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA_OF_KIND[origin.kind]))
    for code, places in flaws.items():
        flaw(code, places)
    return repaired


def _selected_columns(batch: pa.RecordBatch, fields: tuple[Field, ...], flaw: OnFlaw) -> dict[str, pa.Array]:
    """Returns the table columns that `fields` provide, by name; `attributes` and `_rescued` as JSON objects."""
    columns: dict[str, pa.Array] = {}
    members: dict[Role, list[tuple[Field, pa.Array]]] = {Role.ATTRIBUTE: [], Role.UNKNOWN: []}
    for place, field in enumerate(fields):
        values = batch.column(place)
        if field.role is Role.COLUMN:
            columns[field.name] = values
        elif field.role in members:
            members[field.role].append((field, values))
        elif field.role is Role.VECTOR:
            columns["vector"] = _vectors(values, flaw)
        elif field.role is Role.HAS_VECTOR:
            flaw(Flaw.VECTOR_LEFT_OUT, _positions(values))
    for role, name in ((Role.ATTRIBUTE, "attributes"), (Role.UNKNOWN, "_rescued")):
        if members[role]:
            columns[name] = objects(members[role], batch.num_rows)
    return columns


_NULLS: dict[pa.DataType, pa.Array] = {}


def nulls(rows: int, kind: pa.DataType) -> pa.Array:
    """Returns `rows` nulls of the type `kind`, from a cache."""
    cached = _NULLS.get(kind)
    if cached is None or len(cached) < rows:
        cached = _NULLS[kind] = pa.nulls(max(rows, 1024), kind)
    return cached.slice(0, rows)


def _positions(mask: pa.Array) -> np.ndarray:
    """Returns the positions where `mask` is true: (matches,) int64, ascending."""
    return np.flatnonzero((mask.fill_null(False) if mask.null_count else mask).to_numpy(zero_copy_only=False))


def _texts(texts: pa.Array, flaw: OnFlaw) -> pa.Array:
    if texts.null_count:
        flaw(Flaw.TEXT_MISSING, _positions(texts.is_null()))
        texts = texts.fill_null("")
    if texts.nbytes > TRUNCATED_CHARACTERS:
        truncated = pc.and_(
            pc.ends_with(texts, TRUNCATED), pc.greater_equal(pc.utf8_length(texts), TRUNCATED_CHARACTERS)
        )
        flaw(Flaw.TEXT_TRUNCATED, _positions(truncated))
    return texts


def _fingerprints(uploaded: pa.Array | None, texts: pa.Array, fingerprints: Fingerprints, flaw: OnFlaw) -> pa.Array:
    """Returns uploaded fingerprints, computed if missing or of the wrong size: (rows,) binary."""
    if uploaded is None:
        return pa.array([fingerprints.of(text) for text in texts.to_pylist()], pa.binary())
    is_valid = pc.equal(pc.binary_length(uploaded), 8 * HASHES).fill_null(False)
    missing = _positions(pc.invert(is_valid))
    if not len(missing):
        return uploaded
    if len(missing) > uploaded.null_count:
        flaw(Flaw.FINGERPRINT_WRONG_SIZE, _positions(pc.and_(pc.invert(is_valid), uploaded.is_valid())))
    computed = pa.array([fingerprints.of(text) for text in texts.take(pa.array(missing)).to_pylist()], pa.binary())
    return pc.replace_with_mask(uploaded, pc.invert(is_valid), computed)


def _vectors(uploaded: pa.Array, flaw: OnFlaw) -> pa.Array:
    """Returns unit vectors as little-endian float16, (rows,) binary; null if an uploaded vector cannot be used."""
    lengths = pc.list_value_length(uploaded)
    has_right_size = pc.equal(lengths, VECTOR_NUMBERS).fill_null(False)
    flaw(Flaw.VECTOR_WRONG_SIZE, _positions(pc.not_equal(lengths, VECTOR_NUMBERS)))
    places = _positions(has_right_size)
    numbers = uploaded.filter(has_right_size).flatten()
    values = (
        (numbers.fill_null(np.nan) if numbers.null_count else numbers)
        .to_numpy(zero_copy_only=False)
        .reshape(-1, VECTOR_NUMBERS)
    )
    largest = np.abs(values).max(axis=1, initial=0)
    finite = np.isfinite(largest)
    usable = finite & (largest > 0)
    # Divided by the largest number first: the squares of the largest floats are infinite.
    scaled = values[usable] / largest[usable, None]
    units = scaled / np.sqrt(np.einsum("ij,ij->i", scaled, scaled))[:, None]
    flaw(Flaw.VECTOR_NOT_FINITE, places[~finite])
    flaw(Flaw.VECTOR_ZERO, places[finite & ~usable])
    halves = units.astype("<f2")
    packed = pa.Array.from_buffers(
        pa.binary(2 * VECTOR_NUMBERS), len(halves), [None, pa.py_buffer(halves.tobytes())]
    ).cast(pa.binary())
    at = np.full(len(uploaded), -1, dtype=np.int64)
    at[places[usable]] = np.arange(len(halves))
    return packed.take(pa.array(at, mask=at < 0))
