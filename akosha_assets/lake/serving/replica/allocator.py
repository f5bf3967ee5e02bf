"""Memory that the process has from the system beyond what it holds: kept small while it runs, given back after a large
load.

Speaks to glibc, where that is the allocator; elsewhere nothing is done.
"""

import ctypes

import pyarrow as pa

# mallopt's numbers, from malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
# Each arena keeps what its threads freed; more than two threads seldom allocate at one time.
ARENAS = 2
# A freed block of this size or more goes back at once. Left to itself glibc raises the bound to 32 MiB, the size of a
# day's columns; a much lower one makes every search fetch its pages anew.
MMAPPED_BYTES = 4 << 20
KEPT_FREE_BYTES = 16 << 20


def limit_heap() -> None:
    """Let all threads share freed memory, and return large blocks to the system. For the start of a process."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for option, value in ((ARENA_MAX, ARENAS), (MMAP_THRESHOLD, MMAPPED_BYTES), (TRIM_THRESHOLD, KEPT_FREE_BYTES)):
            libc.mallopt(option, value)


def trim_heap() -> None:
    """Memory that a large load took and freed goes back to the system, as far as the allocators can."""
    pa.default_memory_pool().release_unused()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
