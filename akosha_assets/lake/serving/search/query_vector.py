"""The vector that a semantic ranking compares with: that of a stored memory, or one that the caller sends."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from akosha_assets.lake.errors import InvalidRequest
from akosha_assets.lake.serving.query import Identity
from akosha_assets.lake.serving.snapshot import Snapshot


@dataclass(frozen=True, kw_only=True)
class QueryVector:
    """A unit vector and its space."""

    vector: np.ndarray  # (dimensions,) float32
    space: str
    # The hash of the memory that the vector belongs to, which is no result; None for other vectors.
    identity: int | None = None


def memory_vector(snapshot: Snapshot, identity: Identity, space: str | None) -> QueryVector:
    """The vector of a stored memory in `space`, or in its first space if that is None.

    Raises:
        NotFound: the memory does not exist.
        TierUnavailable: a tier that may have it cannot be read.
        InvalidRequest: it has no vector, or none in `space`.
    """
    place = snapshot.find(identity)
    if place is None:
        raise snapshot.missing(identity)
    _, part, row = place
    vectors = {
        name: vector for name, stored in part.vectors.items() if (vector := stored.query_vector(row)) is not None
    }
    for name, vector in vectors.items():
        if space in (None, name):
            return QueryVector(vector=vector, space=name, identity=int(part.identity[row]))
    if vectors:
        raise InvalidRequest("space", f"this memory has no vector of {space!r}; expected {', '.join(sorted(vectors))}")
    raise InvalidRequest("like", "this memory has no vector yet; expected one that is embedded, or ask with its words")


def sent_vector(numbers: Sequence[float], space: str, dimensions: int) -> QueryVector:
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
    return QueryVector(vector=(vector / np.linalg.norm(vector)).astype(np.float32), space=space)
