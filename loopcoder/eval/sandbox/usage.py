"""What a running sandbox holds: the memory of all its processes together, and its disk."""

import os
from contextlib import suppress

_FILE_COST = 4096  # an empty file is not free: the kernel keeps about this much for each


class Usage:
    """Looks into the namespaces of process `pid`, from outside.

    The list of processes is the sandbox's own /proc, so a daemon or an orphan is on it too.
    """

    def __init__(self, pid: int, *, lasting: bool) -> None:
        self._pid, self._lasting = pid, lasting
        self._proc = -1
        self._writable: dict[int, bool] = {}  # and whether it was full at first

    def close(self) -> None:
        """Let go of the namespaces."""
        for descriptor in (self._proc, *self._writable):
            if descriptor >= 0:
                os.close(descriptor)
        self._proc, self._writable = -1, {}

    def memory(self) -> int:
        """Bytes of memory and swap; pages that several processes share count once."""
        if not self._open():
            return 0
        return sum(self._resident(name) for name in os.listdir(self._proc) if name.isdigit())

    def memory_above(self, limit: int) -> bool:
        """Whether `memory` is above the limit. The cheap sum counts shared pages twice or more."""
        if self.memory() <= limit:
            return False
        return sum(self._share(name) for name in os.listdir(self._proc) if name.isdigit()) > limit

    def disk_full(self) -> bool:
        """Whether /tmp or /dev/shm is full, by bytes or by the number of its files.

        One that lasts and was full from the start may be used to make room.
        """
        return self._open() and any(
            _files(directory) > (2 if was_full else 1) or (not was_full and _full(directory))
            for directory, was_full in self._writable.items()
        )

    def _open(self) -> bool:
        """Find the sandbox's own /proc; while bubblewrap sets up, its root is still ours."""
        if self._proc >= 0:
            return True
        with suppress(OSError):
            root = os.open(f"/proc/{self._pid}/root", os.O_PATH | os.O_DIRECTORY)
            try:
                if os.stat("proc", dir_fd=root).st_dev == os.stat("/proc").st_dev:
                    return False
                flags = os.O_RDONLY | os.O_DIRECTORY
                for name in ("tmp", "dev/shm"):
                    directory = os.open(name, flags, dir_fd=root)
                    full = _full(directory) or _files(directory) > 1
                    self._writable[directory] = full and self._lasting
                self._proc = os.open("proc", flags, dir_fd=root)
            finally:
                os.close(root)
        return self._proc >= 0

    def _resident(self, name: str) -> int:
        return self._sum(f"{name}/status", (b"VmRSS:", b"VmSwap:"))

    def _share(self, name: str) -> int:
        try:
            return self._sum(f"{name}/smaps_rollup", (b"Pss:", b"SwapPss:"), strict=True)
        except PermissionError:  # a process may hide this one, so it is counted in full
            return self._resident(name)

    def _sum(self, path: str, fields: tuple[bytes, ...], strict: bool = False) -> int:
        try:
            descriptor = os.open(path, os.O_RDONLY, dir_fd=self._proc)
            try:
                text = os.read(descriptor, 8192)
            finally:
                os.close(descriptor)
        except PermissionError:
            if strict:
                raise
            return 0
        except OSError:  # it has ended since it was listed
            return 0
        rows = (line.split() for line in text.splitlines())
        return sum(int(row[1]) << 10 for row in rows if row and row[0] in fields)


def _full(directory: int) -> bool:
    return os.fstatvfs(directory).f_bavail == 0


def _files(directory: int) -> float:
    """How much of the space its files would take if each were one page."""
    space = os.fstatvfs(directory)
    return (space.f_files - space.f_ffree) * _FILE_COST / (space.f_blocks * space.f_frsize)
