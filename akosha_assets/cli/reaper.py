"""Ends the process groups that `akosha up` started, should it die without stopping them.

Standard input carries `+GROUP` and `-GROUP`, a line each; its end means that the parent is gone. The lock on the home
is inherited, so the next `akosha up` waits until everything here has ended. Standard library only: it must stay small.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path


def members(groups: Iterable[int]) -> set[int]:
    """The process groups among `groups` that still have a living process; zombies do not count."""
    wanted, found = set(groups), set()
    if not Path("/proc/self/stat").exists():
        return {group for group in wanted if _answers(group)}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            # A process may end between the listing and the look at it.
            with contextlib.suppress(OSError):
                state, _parent, group = Path(entry.path, "stat").read_text().rpartition(")")[2].split()[:3]
                if state != "Z" and int(group) in wanted:
                    found.add(int(group))
    return found


def _answers(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def end(groups: Iterable[int], *, grace_seconds: float) -> bool:
    """Every process of `groups` is gone; returns whether all ended by themselves within `grace_seconds` of SIGTERM."""
    left = members(groups)
    _signal(left, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while (left := members(left)) and time.monotonic() < deadline:
        time.sleep(0.1)
    _signal(left, signal.SIGKILL)
    while killed := members(left):
        _signal(killed, signal.SIGKILL)
        time.sleep(0.05)
    return not left


def _signal(groups: Iterable[int], number: int) -> None:
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)


def main() -> None:
    """Nothing of what the parent started is left once this returns."""
    # Ctrl-C in a terminal is for the parent; this one ends when the parent has.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    grace_seconds, groups = float(sys.argv[1]), set[int]()
    for line in sys.stdin:
        number = int(line[1:])
        if line[0] == "+":
            groups.add(number)
        else:
            groups.discard(number)
    end(groups, grace_seconds=grace_seconds)


if __name__ == "__main__":
    main()
