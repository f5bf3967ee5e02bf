"""The vectors that a semantic ranking compares with: those of a stored memory, or one that the caller sends."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from akosha_assets.lake.errors import InvalidRequest
from akosha_assets.lake.serving.query import Identity
from akosha_assets.lake.serving.snapshot import Snapshot


@dataclass(frozen=True, kw_only=True)
class QueryVectors:
    """Unit vectors and their space. A result is as near as its nearest pair of vectors."""

    vectors: np.ndarray  # (vectors, dimensions) float32
    space: str
    # The hash of the memory that the vector belongs to, which is no result; None for other vectors.
    identity: int | None = None

    def background(self, snapshot: Snapshot) -> float:
        """The cosine of an average row with the nearest of the vectors."""
        return max(snapshot.background(self.space, vector) for vector in self.vectors)


def memory_vectors(snapshot: Snapshot, identity: Identity, space: str | None) -> QueryVectors:
    """The vectors of a stored memory, one for each passage, in `space`, or in its first space if that is None.

    Raises:
        NotFound: the memory does not exist.
        TierUnavailable: a tier that may have it cannot be read.
        InvalidRequest: it has no vector, or none in `space`.
    """
    place = snapshot.find(identity)
    if place is None:
        raise snapshot.missing(identity)
    _, part, row = place
    by_space = {name: found for name, stored in part.vectors.items() if len(found := stored.query_vectors(row))}
    for name, vectors in by_space.items():
        if space in (None, name):
            return QueryVectors(vectors=vectors, space=name, identity=int(part.identity[row]))
    if by_space:
        raise InvalidRequest("space", f"this memory has no vector of {space!r}; expected {', '.join(sorted(by_space))}")
    raise InvalidRequest("like", "this memory has no vector yet; expected one that is embedded, or ask with its words")


def sent_vector(numbers: Sequence[float], space: str, dimensions: int) -> QueryVectors:
    """The unit vector in the direction of `numbers`.

    Raises:
        InvalidRequest: it does not have `dimensions` numbers.
    """
    if len(numbers) != dimensions:
        raise InvalidRequest(
            "vector", f"has {len(numbers)} numbers; expected {dimensions}, the size of space {space!r}"
        )
    vector = np.array(numbers, np.float64)
    # Otherwise the squares of very large and very small numbers overflow and underflow.
    vector /= np.abs(vector).max()
    return QueryVectors(vectors=(vector / np.linalg.norm(vector)).astype(np.float32)[None], space=space)
