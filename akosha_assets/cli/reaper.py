"""Ends the process groups that `akosha up` started, if it dies without stopping them.

Standard input has lines `+GROUP` and `-GROUP`; its end means that the parent has died. The lock on the home is
inherited, so the next `akosha up` waits until all groups have ended. Standard library only, to stay small.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path


def members(groups: Iterable[int]) -> set[int]:
    """Those of `groups` that still have a running process; zombies do not count."""
    groups_to_check, running = set(groups), set[int]()
    if not Path("/proc/self/stat").exists():
        return {group for group in groups_to_check if _exists(group)}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            # A process may end after it was listed.
            with contextlib.suppress(OSError):
                state, _parent, group = Path(entry.path, "stat").read_text().rpartition(")")[2].split()[:3]
                if state != "Z" and int(group) in groups_to_check:
                    running.add(int(group))
    return running


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def end(groups: Iterable[int], *, grace_seconds: float) -> bool:
    """End all processes of `groups`; returns whether all ended within `grace_seconds` of SIGTERM."""
    running = members(groups)
    _signal(running, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while (running := members(running)) and time.monotonic() < deadline:
        time.sleep(0.1)
    _signal(running, signal.SIGKILL)
    while killed := members(running):
        _signal(killed, signal.SIGKILL)
        time.sleep(0.05)
    return not running


def _signal(groups: Iterable[int], number: int) -> None:
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)


def main() -> None:
    """Read groups from standard input until the parent has died, then end those that were not removed."""
    # Ctrl-C in a terminal is for the parent; this process ends after it.
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
