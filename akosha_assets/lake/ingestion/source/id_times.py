"""Reads the UTC times in ids: ULIDs, and UUIDs of version 7 with or without dashes."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MISSING = np.iinfo(np.int64).min

# Kinds of ids, by code.
NO_ID_TIME, ULID_ID, UUID7_ID = range(3)

ULID_LENGTH, UUID_LENGTH, DASHED_LENGTH = 26, 32, 36
# Lengths of ids that may have a time.
LENGTHS = (ULID_LENGTH, UUID_LENGTH, DASHED_LENGTH)
_DASHES = np.array([8, 13, 18, 23])
_VERSION_DIGIT, _VARIANT_DIGIT = 12, 16
_NO_DIGIT = 255


def _digits_of(alphabet: str) -> np.ndarray:
    """Returns the digit of each byte, (256,) uint8: its place in `alphabet`, in upper or lower case, or `_NO_DIGIT`."""
    digits = np.full(256, _NO_DIGIT, dtype=np.uint8)
    for digit, letter in enumerate(alphabet):
        digits[ord(letter)] = digits[ord(letter.lower())] = digit
    return digits


_CROCKFORD = _digits_of("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
_HEX = _digits_of("0123456789ABCDEF")
# The first ten letters of a ULID, and the first twelve of a UUIDv7, encode milliseconds since 1970.
_ULID_WEIGHTS = 32 ** np.arange(9, -1, -1, dtype=np.int64)
_UUID_WEIGHTS = 16 ** np.arange(11, -1, -1, dtype=np.int64)


@dataclass(frozen=True)
class IdTimes:
    """The time in each id."""

    # (rows,) int64 UTC microseconds, MISSING if the id has none.
    times_us: np.ndarray
    # (rows,) int8: NO_ID_TIME, ULID_ID or UUID7_ID.
    kinds: np.ndarray

    def take(self, rows: np.ndarray | slice) -> "IdTimes":
        """Returns the times of `rows`."""
        return IdTimes(self.times_us[rows], self.kinds[rows])


def id_times(ids: pa.Array) -> IdTimes:
    """Returns the time in each of `ids`, (rows,) string."""
    times = IdTimes(np.full(len(ids), MISSING, dtype=np.int64), np.full(len(ids), NO_ID_TIME, dtype=np.int8))
    lengths = pc.binary_length(ids).fill_null(0).to_numpy(zero_copy_only=False)
    for length in LENGTHS:
        places = np.flatnonzero(lengths == length)
        if not len(places):
            continue
        # `take` copies the texts into one contiguous buffer.
        letters = np.frombuffer(ids.take(pa.array(places)).buffers()[2], dtype=np.uint8, count=length * len(places))
        letters = letters.reshape(-1, length)
        if length == ULID_LENGTH:
            digits = _CROCKFORD[letters]
            is_valid = (digits != _NO_DIGIT).all(axis=1) & (digits[:, 0] < 8)
            milliseconds = digits[:, :10].astype(np.int64) @ _ULID_WEIGHTS
        else:
            is_valid = np.ones(len(places), bool)
            if length == DASHED_LENGTH:
                is_valid = (letters[:, _DASHES] == ord("-")).all(axis=1)
                letters = np.delete(letters, _DASHES, axis=1)
            digits = _HEX[letters]
            is_valid &= (digits != _NO_DIGIT).all(axis=1)
            is_valid &= (digits[:, _VERSION_DIGIT] == 7) & (digits[:, _VARIANT_DIGIT] >> 2 == 0b10)
            milliseconds = digits[:, :12].astype(np.int64) @ _UUID_WEIGHTS
        times.times_us[places[is_valid]] = milliseconds[is_valid] * 1000
        times.kinds[places[is_valid]] = ULID_ID if length == ULID_LENGTH else UUID7_ID
    return times
