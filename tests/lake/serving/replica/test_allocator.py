"""What the allocator keeps."""

import ctypes
import subprocess
import sys

import pytest

# Eight threads allocate at one time; glibc then reports each arena.
PROGRAM = """
import ctypes, threading
from akosha_assets.lake.serving.replica import allocator
allocator.limit_heap()
libc = ctypes.CDLL(None)
together = threading.Barrier(8)
def allocate():
    together.wait()
    libc.malloc(1000)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_stats()
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_stats"), reason="another allocator than glibc's")
def test_threads_share_few_arenas() -> None:
    statistics = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stderr
    assert statistics.count("Arena ") == 2
