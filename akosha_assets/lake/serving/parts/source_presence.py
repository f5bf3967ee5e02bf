"""What the sources of memories have now: memories that left their source, and other ids of memories.

Immutable, like the parts. `replica/presence_replica.py` reads it from the tables.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

# Instead of a time, for a memory that its source has.
PRESENT = 0

PRESENCE_SCHEMA = pa.schema(
    [("identity", pa.uint64()), ("is_absent", pa.bool_()), ("snapshot_us", pa.int64()), ("batch_id", pa.int64())]
)
ALIASES_SCHEMA = pa.schema(
    [
        ("identity", pa.uint64()),
        ("memory_identity", pa.uint64()),
        ("id", pa.string()),
        ("memory_id", pa.string()),
        ("snapshot_us", pa.int64()),
    ]
)


@dataclass(frozen=True, eq=False)
class SourcePresence:
    """Absences (PRESENCE_SCHEMA) and aliases (ALIASES_SCHEMA), in any order. Identities are hashes as in `Part`."""

    absences: pa.Table = field(default_factory=PRESENCE_SCHEMA.empty_table)
    aliases: pa.Table = field(default_factory=ALIASES_SCHEMA.empty_table)

    @property
    def has_absences(self) -> bool:
        """Whether any source lacks a memory."""
        return len(self._absent[0]) > 0

    def since(self, identity: np.ndarray) -> np.ndarray | None:
        """Since when the source of each memory lacks it, (rows,) int64 UTC microseconds, PRESENT where it does not;
        None if every source has its memory.

        `identity`: (rows,) uint64.
        """
        absent, since_us = self._absent
        if not len(absent):
            return None
        places = np.minimum(np.searchsorted(absent, identity), len(absent) - 1)
        is_absent = absent[places] == identity
        return np.where(is_absent, since_us[places], PRESENT) if is_absent.any() else None

    def until(self, microseconds: int) -> "SourcePresence":
        """What the snapshots up to a time showed; this object if there is no later one. Aliases stay."""
        is_earlier = self.absences["snapshot_us"].to_numpy() <= microseconds
        return self if is_earlier.all() else SourcePresence(self.absences.filter(pa.array(is_earlier)), self.aliases)

    def memory_id(self, identity: int) -> str | None:
        """The id under which a memory is stored, for the hash of another name of it; None for other hashes."""
        hashes, order = self._by_alias
        place = int(np.searchsorted(hashes, np.uint64(identity)))
        if place == len(hashes) or int(hashes[place]) != identity:
            return None
        name: str = self.aliases["memory_id"][int(order[place])].as_py()
        return name

    def aliases_of(self, identity: int) -> list[str]:
        """The other ids of the memory with this hash, in the order in which they came."""
        hashes, order = self._by_memory
        first, stop = (int(np.searchsorted(hashes, np.uint64(identity), side)) for side in ("left", "right"))
        return list(dict.fromkeys(self.aliases["id"].take(pa.array(order[first:stop])).to_pylist()))

    @cached_property
    def _absent(self) -> tuple[np.ndarray, np.ndarray]:
        """(absent memories,) uint64, sorted, and (absent memories,) int64: since when."""
        identity, at, batch = (self.absences[name].to_numpy() for name in ("identity", "snapshot_us", "batch_id"))
        order = np.lexsort((batch, at, identity))
        identity = identity[order]
        # The last row of each memory counts.
        is_last = np.append(identity[1:] != identity[:-1], True)[: len(identity)]
        is_absent = self.absences["is_absent"].to_numpy()[order] & is_last
        return identity[is_absent], at[order][is_absent]

    @cached_property
    def _by_alias(self) -> tuple[np.ndarray, np.ndarray]:
        return self._sorted("identity")

    @cached_property
    def _by_memory(self) -> tuple[np.ndarray, np.ndarray]:
        return self._sorted("memory_identity")

    def _sorted(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(aliases,) uint64, sorted, and (aliases,) int64: their rows."""
        hashes, at = self.aliases[name].to_numpy(), self.aliases["snapshot_us"].to_numpy()
        order = np.lexsort((at, hashes))
        return hashes[order], order
