"""Limits the memory that the allocator holds beyond what the process uses.

Works with glibc; does nothing with another allocator.
"""

import ctypes

import pyarrow as pa

# Parameters of mallopt, from malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
# Each arena keeps the memory its threads freed; more than two threads rarely allocate at a time.
ARENAS = 2
# A freed block of this size is returned at once. By default glibc raises the bound to 32 MiB, the size of a day's
# columns; with a much lower bound every search faults its pages in again.
MMAPPED_BYTES = 4 << 20
KEPT_FREE_BYTES = 16 << 20


def limit_heap() -> None:
    """Limit the arenas, and return large freed blocks to the system at once. Call it when the process starts."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for option, value in ((ARENA_MAX, ARENAS), (MMAP_THRESHOLD, MMAPPED_BYTES), (TRIM_THRESHOLD, KEPT_FREE_BYTES)):
            libc.mallopt(option, value)


def trim_heap() -> None:
    """Return freed memory to the system, as far as the allocators can; worth it after a large load."""
    pa.default_memory_pool().release_unused()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
