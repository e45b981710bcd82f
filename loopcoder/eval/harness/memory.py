"""The memory of a running program and all that it started, kept below a limit."""

import contextlib
import os
import signal
from pathlib import Path

from loopcoder.records import machine

SHARE = 0.75  # of the machine's memory: the rest is for the system, and a served model's growth


def most_memory() -> int:
    """What an evaluator and the programs that it judges may use together, in bytes."""
    return int(machine()["memory_bytes"] * SHARE)


def hold_below(limit: int, pid: int) -> bool:
    """Kill the largest process below `pid` if all of them together hold more than `limit` bytes.

    The largest is the answer that eats memory, not the evaluator, which goes on and finds it
    failed. Pages that several processes share count once. Returns whether one was killed.
    """
    tree = descendants(pid)
    if sum(map(_resident, tree)) <= limit:
        return False
    held = {each: _proportional(each) for each in tree}
    if sum(held.values()) <= limit:
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(max(held, key=held.__getitem__), signal.SIGKILL)
    return True


def descendants(pid: int) -> list[int]:
    """All processes below it. In a namespace of their own, orphans stay below its first one."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{parent}/task").iterdir():
                waiting += map(int, (thread / "children").read_text(encoding="ascii").split())
        found.append(parent)
    return found[1:]


def _resident(pid: int) -> int:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return _resident(pid)
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
