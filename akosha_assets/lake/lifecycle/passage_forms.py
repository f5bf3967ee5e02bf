"""The vectors of passages in the form of each tier: those of hot or warm rows as floats, and converted.

`passages` has the vectors one after the other, each as long as the row's `vector`.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake.lifecycle import quantization

# From (passages, dimensions) float32 to numbers, (passages, bytes), and scales, (passages,) float32.
Form = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
SCALE_BYTES = 4


def columns(schema: pa.Schema) -> list[str]:
    """The columns of `schema` that `floats` reads beside `vector`."""
    return [name for name in ("passages", "passage_scales") if name in schema.names]


def floats(rows: pa.RecordBatch, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of the passages of hot or warm rows, (passages, dimensions) float32, and the row of each, (passages,)
    int64.

    `numbers`: positions of rows whose `vector` has one length. Rows with invalid passages count as rows without any.
    """
    positions = pa.array(numbers)
    vector_bytes = len(rows["vector"][int(numbers[0])].as_py())
    passages = rows["passages"].take(positions)
    lengths = pc.fill_null(pc.binary_length(passages), 0).to_numpy(zero_copy_only=False)
    counts = lengths // vector_bytes
    is_valid = (counts > 0) & (lengths % vector_bytes == 0)
    is_scaled = "passage_scales" in rows.schema.names
    if is_scaled:
        scales = rows["passage_scales"].take(positions)
        scale_bytes = pc.fill_null(pc.binary_length(scales), 0).to_numpy(zero_copy_only=False)
        is_valid &= scale_bytes == counts * SCALE_BYTES
    dtype = "i1" if is_scaled else "<f2"
    raw = quantization.concatenated(passages.filter(pa.array(is_valid)))
    vectors = raw.view(dtype).reshape(-1, vector_bytes // np.dtype(dtype).itemsize)
    of_row = np.repeat(numbers[is_valid], counts[is_valid])
    if is_scaled:
        scale = quantization.concatenated(scales.filter(pa.array(is_valid))).view("<f4")
        return quantization.from_int8(vectors, scale), of_row
    return vectors.astype(np.float32), of_row


def convert(rows: pa.RecordBatch, form: Form) -> dict[str, pa.Array]:
    """The columns `passages`, `passage_scales` and `passage_ranges` of hot or warm rows in another form.

    All are null where a row has no vector or its passages are invalid.
    """
    passages: list[bytes | None] = [None] * rows.num_rows
    scales: list[bytes | None] = [None] * rows.num_rows
    for numbers in quantization.by_length(rows["vector"]):
        vectors, of_row = floats(rows, numbers)
        if not len(vectors):
            continue
        converted, scale = form(vectors)
        scale = scale.astype("<f4")
        # Only long texts have passages.
        for row, start, stop in zip(*_runs(of_row), strict=True):
            passages[row], scales[row] = converted[start:stop].tobytes(), scale[start:stop].tobytes()
    stored = pa.array(passages, pa.binary())
    is_known = pc.and_(pc.is_valid(rows["vector"]), pc.equal(pc.is_valid(stored), pc.is_valid(rows["passages"])))
    return {
        "passages": stored,
        "passage_scales": pa.array(scales, pa.binary()),
        "passage_ranges": pc.if_else(is_known, rows["passage_ranges"], pa.scalar(None, pa.binary())),
    }


def _runs(of_row: np.ndarray) -> tuple[list[int], list[int], list[int]]:
    """Each row of `of_row`, (passages,) int64 in runs of equal rows, with the start and the stop of its run."""
    starts = np.flatnonzero(np.diff(of_row, prepend=-1))
    return of_row[starts].tolist(), starts.tolist(), [*starts[1:].tolist(), len(of_row)]
