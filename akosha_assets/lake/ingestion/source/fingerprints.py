"""MinHash fingerprints of texts, byte for byte as Session-Buddy computes them, for rows that have none.

128 little-endian numbers: number i is the least SHA-256 of "42:i:gram" over the text's 3-grams, modulo 2**64. The 128
hashes of a gram are cached between texts, so a text with cached grams costs one gather and one minimum.
"""

import hashlib
import re

import numpy as np

HASHES = 128
SEED = 42
GRAM_LENGTH = 3
# The source samples longer texts: every n-th gram, this many at most.
GRAMS_MAX = 2048
CACHED_GRAMS = 32_768

_SPACE = re.compile(r"\s+")
_PREFIXES = [hashlib.sha256(f"{SEED}:{number}:".encode()) for number in range(HASHES)]


def grams_of(text: str) -> list[str]:
    """Returns the sampled 3-grams of `text` in lower case with white space collapsed, in order, with repetitions."""
    text = _SPACE.sub(" ", text.lower()).strip()
    if len(text) < GRAM_LENGTH:
        return [text] if text else []
    count = len(text) - GRAM_LENGTH + 1
    step = max(1, count // GRAMS_MAX) if count > GRAMS_MAX else 1
    return [text[start : start + GRAM_LENGTH] for start in range(0, count, step)][:GRAMS_MAX]


class Fingerprints:
    """Computes fingerprints; caches the hashes of up to `cached_grams` grams between calls."""

    def __init__(self, cached_grams: int = CACHED_GRAMS):
        self._cached_grams = max(cached_grams, GRAMS_MAX)
        self._clear()

    def _clear(self) -> None:
        self._rows: dict[str, int] = {}
        # (rows, HASHES) uint64: the first and the last 64 bits of each gram's hashes.
        self._high = np.empty((1024, HASHES), dtype=np.uint64)
        self._low = np.empty((1024, HASHES), dtype=np.uint64)

    def _digests(self, gram: str) -> list[bytes]:
        encoded = gram.encode("utf-8", "replace")
        digests = []
        for prefix in _PREFIXES:
            state = prefix.copy()
            state.update(encoded)
            digests.append(state.digest())
        return digests

    def _add(self, grams: list[str]) -> None:
        first, last = len(self._rows), len(self._rows) + len(grams)
        if last > len(self._high):
            size = max(last, 2 * len(self._high))
            self._high = np.concatenate([self._high, np.empty((size - len(self._high), HASHES), np.uint64)])
            self._low = np.concatenate([self._low, np.empty((size - len(self._low), HASHES), np.uint64)])
        for row, gram in enumerate(grams, first):
            digests = np.frombuffer(b"".join(self._digests(gram)), dtype=">u8").reshape(HASHES, 4)
            self._high[row], self._low[row] = digests[:, 0], digests[:, 3]
            self._rows[gram] = row

    def of(self, text: str) -> bytes:
        """Returns the fingerprint of `text`, 1,024 bytes; all zero if it has no gram."""
        grams = list(dict.fromkeys(grams_of(text)))
        if not grams:
            return bytes(8 * HASHES)
        unknown = [gram for gram in grams if gram not in self._rows]
        if len(self._rows) + len(unknown) > self._cached_grams:
            self._clear()
            unknown = grams
        if unknown:
            self._add(unknown)
        rows = np.fromiter(map(self._rows.__getitem__, grams), dtype=np.intp, count=len(grams))
        high = self._high[rows]
        least = high.argmin(axis=0)
        columns = np.arange(HASHES)
        values = self._low[rows[least], columns]
        tied = np.flatnonzero((high == high[least, columns]).sum(axis=0) > 1) if len(grams) > 1 else ()
        for column in tied:
            # Equal in the first 64 of 256 bits: compare the full hashes.
            rivals = [grams[place] for place in np.flatnonzero(high[:, column] == high[least[column], column])]
            values[column] = int.from_bytes(min(self._digests(gram)[column] for gram in rivals)[-8:], "big")
        return bytes(values.astype("<u8"))
