"""Quantizes vectors: float16 to int8 with a scale per vector, and to sketches of one bit a number.

A sketch has the signs of the numbers after a fixed random rotation, as in RaBitQ (Gao & Long, SIGMOD 2024). The
rotation spreads the information of a vector evenly over its bits. `sketch_scale`, the inner product of the vector with
its sketch's direction, makes the score of a float query an unbiased estimate of the cosine.
"""

from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

INT8_METHOD = "int8-scale/1"
SKETCH_METHOD = "rotated-sign/1"
_SEED = 7_402_391


def matrix(vectors: pa.Array, dtype: str) -> np.ndarray:
    """`vectors`, (rows,) binary without nulls and of one length, as a matrix of `dtype`, one row each."""
    _, offsets, data = vectors.buffers()
    first, last = np.frombuffer(offsets, np.int32)[[vectors.offset, vectors.offset + len(vectors)]]
    return np.frombuffer(data, np.uint8)[first:last].view(dtype).reshape(len(vectors), -1)


def concatenated(values: pa.Array) -> np.ndarray:
    """The bytes of binary `values`, nulls left out, one after the other: (bytes,) uint8."""
    _, offsets, data = values.buffers()
    first, last = np.frombuffer(offsets, np.int32)[[values.offset, values.offset + len(values)]]
    # A null may have bytes too; `drop_null` copies only where there is one.
    if values.null_count:
        return concatenated(values.drop_null())
    return np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)[first:last]


def scatter(count: int, groups: list[tuple[np.ndarray, np.ndarray]]) -> pa.Array:
    """A binary column of `count` values from groups of positions, sorted, and matrices with a row for each position.

    Other positions are null. The column may share memory with a matrix.
    """
    lengths = np.zeros(count, np.int32)
    present = np.zeros(count, bool)
    for numbers, rows in groups:
        lengths[numbers] = rows.shape[1] * rows.itemsize
        present[numbers] = True
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    if len(groups) == 1 and len(groups[0][0]) == count:
        # All positions in one group: the matrix is the column.
        data = np.ascontiguousarray(groups[0][1])
        return pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    data = np.empty(offsets[-1], np.uint8)
    for numbers, rows in groups:
        raw = np.ascontiguousarray(rows).view(np.uint8).reshape(len(numbers), -1)
        data[offsets[numbers][:, None] + np.arange(raw.shape[1])] = raw
    validity = pa.py_buffer(np.packbits(present, bitorder="little").tobytes())
    return pa.Array.from_buffers(
        pa.binary(), count, [validity, pa.py_buffer(offsets.tobytes()), pa.py_buffer(data.tobytes())]
    )


def to_int8(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 numbers, (rows, dimensions), and a scale per vector, (rows,) float32; the error is at most half a step."""
    scale = np.abs(vectors).max(axis=1) / np.float32(127)
    step = np.where(scale > 0, scale, np.float32(1))
    return np.rint(vectors / step[:, None]).astype(np.int8), scale.astype(np.float32)


def from_int8(numbers: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The vectors of `to_int8`: (rows, dimensions) float32."""
    return numbers.astype(np.float32) * scale[:, None].astype(np.float32)


def to_sketch(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bits, (rows, dimensions / 8) uint8, and scale, (rows,) float32, of each unit vector."""
    rotated = vectors @ rotation(vectors.shape[1]).T
    scale = np.abs(rotated).sum(axis=1) / np.sqrt(np.float32(vectors.shape[1]))
    # Only a vector that is far from a unit vector has a larger one.
    scale = np.minimum(scale, np.finfo(np.float16).max)
    return np.packbits(rotated > 0, axis=1), scale.astype(np.float16).astype(np.float32)


def from_sketch(sketches: np.ndarray) -> np.ndarray:
    """The direction of each sketch as a unit vector: (rows, dimensions) float32."""
    dimension = sketches.shape[1] * 8
    signs = np.unpackbits(sketches, axis=1).astype(np.float32) * 2 - 1
    directions: np.ndarray = signs @ rotation(dimension) / np.sqrt(np.float32(dimension))
    return directions


def sketch_scores(queries: np.ndarray, sketches: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Estimated cosine of each query with each sketched vector: (queries, rows) float32.

    `queries`: (queries, dimensions) unit vectors; `sketches`: (rows, dimensions / 8) uint8; `scale`: (rows,).
    """
    dimension = queries.shape[1]
    signs = np.unpackbits(sketches, axis=1, count=dimension).astype(np.float32) * 2 - 1
    rotated = (queries @ rotation(dimension).T).astype(np.float32)
    safe = np.where(scale > 0, scale, np.float32(1))
    estimate: np.ndarray = (rotated @ signs.T) / (np.sqrt(np.float32(dimension)) * safe[None, :])
    return estimate


@lru_cache(maxsize=4)
def rotation(dimension: int) -> np.ndarray:
    """The fixed rotation, (dimension, dimension) float32, the same on every machine."""
    # numpy promises never to change the stream of RandomState; the signs make the decomposition unique.
    gaussian = np.random.RandomState(_SEED).standard_normal((dimension, dimension))
    orthogonal, upper = np.linalg.qr(gaussian)
    fixed: np.ndarray = (orthogonal * np.sign(np.diag(upper))).astype(np.float32)
    return fixed


def compact_fingerprint(fingerprints: pa.Array, bits: int) -> pa.Array:
    """The lowest `bits` (4 or 8) of each MinHash value, packed: (rows,) binary; null for fingerprints of other sizes.

    b-bit minwise hashing (Li & König, WWW 2010): if a share m of the values of two fingerprints are equal,
    (m - 2^-bits) / (1 - 2^-bits) estimates the resemblance. Accepts 1,024 bytes (uint64) or 128 bytes (8 bits each).
    """
    groups = []
    for numbers in by_length(fingerprints):
        of_length = fingerprints.take(pa.array(numbers))
        dtype = {1024: "<u8", 128: "u1"}.get(len(of_length[0].as_py()))
        if dtype is not None:
            low = (matrix(of_length, dtype) & np.array((1 << bits) - 1, dtype=dtype)).astype(np.uint8)
            groups.append((numbers, (low[:, 0::2] << 4) | low[:, 1::2] if bits == 4 else low))
    return scatter(len(fingerprints), groups)


def by_length(vectors: pa.Array) -> list[np.ndarray]:
    """Positions of the vectors that are not null or empty, grouped by length; each group (vectors,) int64, sorted."""
    lengths = pc.fill_null(pc.binary_length(vectors), 0).to_numpy(zero_copy_only=False)
    return [np.flatnonzero(lengths == length) for length in np.unique(lengths) if length]


def resemblance(one: bytes, other: bytes) -> float:
    """The estimated share of common 3-grams of two texts, from compact fingerprints of the same number of bits."""
    bits = {128: 8, 64: 4}[len(one)]
    numbers = [np.frombuffer(each, np.uint8) for each in (one, other)]
    if bits == 4:
        numbers = [np.concatenate([each >> 4, each & 15]) for each in numbers]
    chance = 2.0**-bits
    return max(0.0, float(((numbers[0] == numbers[1]).mean() - chance) / (1 - chance)))
