"""As root: a mount namespace in which an unprivileged user reaches what only root may.

The sandbox is made by a user without rights, to whom a Python below /root (0700) is not there. So
such directories are bound to where everyone may go, in a namespace that only the thread which
starts the sandbox is in. A namespace is a file descriptor: no process holds it, and it is gone
when the descriptor is closed.
"""

import ctypes
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from loopcoder.errors import EvaluationError

_POINTS = ("/mnt", "/media", "/srv", "/opt", "/tmp")
_NEW_MOUNTS, _OWN_DIRECTORIES = 0x20000, 0x200  # CLONE_NEWNS, CLONE_FS
_BIND, _RECURSIVE, _PRIVATE = 4096, 16384, 1 << 18  # MS_*
_NOSUID_NODEV = 2 | 4
KEPT = "kept"


def mount_point(sources: Sequence[str]) -> str:
    """A directory that every system has and below which none of the sources lies."""
    for point in _POINTS:
        covered = any(Path(source).is_relative_to(point) for source in sources)
        if Path(point).is_dir() and not covered:
            return point
    raise EvaluationError(f"the sandbox needs a directory to mount on: one of {_POINTS}")


def make_namespace(point: str, sources: Sequence[str], kept_bytes: int | None = None) -> int:
    """Bind source n to `point`/n; with `kept_bytes`, a tmpfs of that size on `point`/kept.

    Returns the namespace. Raises `EvaluationError` where we may not make one.
    """
    made: list[int] = []
    failed: list[OSError] = []

    def make() -> None:
        try:
            _mount(point, sources, kept_bytes)
            made.append(os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=make, name="loopcoder-mounts")
    thread.start()
    thread.join()
    if failed:
        raise EvaluationError(
            f"the sandbox may not mount here ({failed[0]}); as root it needs CAP_SYS_ADMIN (in a "
            "container: --cap-add SYS_ADMIN), or run this as another user"
        )
    return made[0]


def enter(namespace: int) -> None:
    """Move the calling thread, and what it starts, there; for a thread that ends soon."""
    libc = _libc()
    _check(libc.unshare(_OWN_DIRECTORIES), "unshare")
    _check(libc.setns(namespace, _NEW_MOUNTS), "setns")


def _mount(point: str, sources: Sequence[str], kept_bytes: int | None) -> None:
    libc = _libc()
    _check(libc.unshare(_NEW_MOUNTS), "unshare")
    _check(libc.mount(None, b"/", None, _RECURSIVE | _PRIVATE, None), "/")
    place = point.encode()
    _check(libc.mount(b"none", place, b"tmpfs", _NOSUID_NODEV, b"mode=755,size=1m"), point)
    for number, source in enumerate(sources):
        target = f"{point}/{number}"
        if os.path.isdir(source):
            os.mkdir(target, 0o755)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        bound = libc.mount(os.fsencode(source), target.encode(), None, _BIND | _RECURSIVE, None)
        _check(bound, source)
    if kept_bytes is not None:
        target = f"{point}/{KEPT}"
        os.mkdir(target, 0o755)
        options = f"mode=1777,size={kept_bytes}".encode()
        made = libc.mount(b"none", target.encode(), b"tmpfs", _NOSUID_NODEV, options)
        _check(made, target)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
