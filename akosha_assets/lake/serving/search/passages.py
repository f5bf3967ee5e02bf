"""What passages add to the semantic ranking: the best one of each memory, and which texts have none."""

import numpy as np

from akosha_assets.lake.passages import PASSAGES_MAX
from akosha_assets.lake.serving.search.ranking import Ranking
from akosha_assets.lake.serving.snapshot import Snapshot
from akosha_assets.lake.serving.vectors.ranked_rows import RankedRows
from akosha_assets.lake.serving.vectors.vector_set import Coverage


def best_passages(ranking: Ranking, found: RankedRows) -> dict[int, tuple[int, int]]:
    """Start and end of the best passage of each memory that has passages, by its identity. `ranking` has the rows of
    `found`, best first.
    """
    # The best of a memory's rows last, so that it counts.
    with_passages = np.flatnonzero(found.passage[:, 1])[::-1]
    identities = ranking.identity[with_passages].tolist()
    return {
        identity: (start, end)
        for identity, (start, end) in zip(identities, found.passage[with_passages].tolist(), strict=True)
    }


def find_gaps(snapshot: Snapshot, space: str, dimensions: int) -> tuple[str | None, bool]:
    """What the vectors of the space do not describe, None if they describe every text, and whether every memory has a
    vector, and of each of its passages that gets one.
    """
    with_vector = snapshot.vectors.get((space, dimensions), 0)
    if not with_vector:
        return f"no row has a vector of the space {space!r} yet", False
    reasons = []
    if with_vector < snapshot.visible_rows:
        reasons.append(
            f"{snapshot.visible_rows - with_vector} of {snapshot.visible_rows} memories have no vector of the space "
            f"{space!r} (yet)"
        )
    counts = snapshot.coverage[space, dimensions]
    if waiting := int(counts[Coverage.WAITING]):
        reasons.append(f"of {waiting} long memories only the beginning has a vector yet")
    is_complete = not reasons
    if partial := int(counts[Coverage.PARTIAL]):
        reasons.append(
            f"of {partial} memories that are longer than {PASSAGES_MAX} passages, or left hot before they were cut, "
            "only the beginning has vectors"
        )
    return "; ".join(reasons) or None, is_complete
