"""The command that makes one sandbox: bubblewrap's arguments, and the files they name.

As root there are two. The outer one, still root, shows in a mount namespace of its own what only
root may reach (a Python below /root); there we become a user without rights, and the inner one,
which is all there is when we are not root, makes the sandbox.
"""

import itertools
import os
import resource
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from loopcoder.errors import EvaluationError
from loopcoder.eval.sandbox.handed import Handed
from loopcoder.eval.sandbox.interpreter import Interpreter
from loopcoder.eval.sandbox.seccomp import refusals
from loopcoder.eval.sandbox.supervise import Launch
from loopcoder.eval.sandbox.types import Limits

USER = 1000  # as the program sees itself
TOOLS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FIRST_UID, _UIDS = 60_000, 4_000  # outside, when we are root: a range that systems leave alone
_NUMBERS = itertools.count(os.getpid())
_PASSWD = f"user:x:{USER}:{USER}::/tmp:/bin/sh\n".encode()
_GROUP = f"user:x:{USER}:\n".encode()
_OPEN_FILES = 128  # of each process; what they buffer is the kernel's memory, which nobody counts
_NAMES = "/run/bin"  # first on the program's path: `python` is the interpreter that is shown
_KEPT = "/kept"  # in the outer namespace: the /tmp that several runs share

_HOLD = "echo ready; exec sleep infinity"


@dataclass(frozen=True)
class Kept:
    """A /tmp that outlives its runs: process `pid` holds the namespace in which it is mounted."""

    pid: int
    uid: int


def unused_uid() -> int:
    """A user number for one sandbox, so that no two that run have the same."""
    return _FIRST_UID + next(_NUMBERS) % _UIDS


def tool(name: str) -> str:
    """The path of a system program; bubblewrap gets an empty environment, so no PATH."""
    found = shutil.which(name, path=TOOLS)
    if found is None:
        raise EvaluationError(f"the sandbox needs the program {name} (util-linux, bubblewrap)")
    return found


def restrained(limits: Limits, processes: int | None = None) -> list[str]:
    """The kernel's limits, which hold for each process; set inside, where nothing else counts.

    Those for all processes together are looked at from outside (`Supervisor`). Address space is
    four times the memory: a program may map what it does not use.
    """
    wanted = {
        "as": (resource.RLIMIT_AS, 4 * limits.memory_bytes),
        "fsize": (resource.RLIMIT_FSIZE, limits.file_bytes),
        "core": (resource.RLIMIT_CORE, 0),
        "nofile": (resource.RLIMIT_NOFILE, _OPEN_FILES),
    }
    if processes is not None:
        wanted["nproc"] = (resource.RLIMIT_NPROC, processes)
        wanted["msgqueue"] = (resource.RLIMIT_MSGQUEUE, 0)
    words = [tool("prlimit")]
    for name, (number, value) in wanted.items():
        hard = resource.getrlimit(number)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        words.append(f"--{name}={most}:{most}")
    return [*words, "--"]


@dataclass(frozen=True)
class Plan:
    """How the sandboxes of one interpreter are made."""

    interpreter: Interpreter
    root: bool

    def run(
        self,
        argv: Sequence[str],
        files: Mapping[str, bytes],
        env: Mapping[str, str],
        limits: Limits,
        *,
        stdin: bytes | None,
        kept: Kept | None = None,
    ) -> Launch:
        """The launch of one program; `stdin` is None for a pipe to talk through."""
        with Handed() as handed:
            inner = self._inner(handed, files, limits, kept)
            inner += [*_environment(self.interpreter, env), *handed.gates()]
            command = [*self._before(handed, kept), tool("bwrap"), *handed.arguments(inner), "--"]
            return handed.launch([*command, *restrained(limits, limits.processes), *argv], stdin)

    def keep(self, limits: Limits) -> Launch:
        """A namespace with a /tmp that lasts until this launch is ended."""
        with Handed() as handed:
            words = [*self._outer(), "--perms", "1777", "--size", str(limits.disk_bytes)]
            words += ["--tmpfs", _KEPT, "--die-with-parent", "--clearenv"]
            words += [] if self.root else ["--unshare-user"]
            words += handed.gates()
            command = [tool("bwrap"), *handed.arguments(words), "--", "/bin/sh", "-c", _HOLD]
            return handed.launch(command, b"")

    def _before(self, handed: Handed, kept: Kept | None) -> list[str]:
        """What stands before the inner bubblewrap."""
        if kept is not None:
            enter = [tool("nsenter"), "--target", str(kept.pid), "--mount"]
            enter += [] if self.root else ["--user", "--preserve-credentials"]
            return [*enter, "--", *(_drop(kept.uid) if self.root else [])]
        if self.root:
            outer = [*self._outer(), "--die-with-parent", "--clearenv"]
            return [tool("bwrap"), *handed.arguments(outer), "--", *_drop(unused_uid())]
        return []

    def _binds(self) -> dict[str, str]:
        """Read-only: what is seen (key) of what is here (value)."""
        seen = ["/usr", *_top()[1]]
        seen += ["/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime"]
        binds = {path: path for path in seen if os.path.exists(path)}
        prefix = str(self.interpreter.prefix)
        if not prefix.startswith("/usr/") and prefix != "/usr":
            binds[prefix] = prefix
        return binds

    def _packages(self) -> dict[str, str]:
        site = next(iter(self.interpreter.sites), self.interpreter.prefix)
        return {str(site / path.name): str(path) for path in self.interpreter.packages}

    def _outer(self) -> list[str]:
        words = ["--ro-bind", "/usr", "/usr", *_links(), "--dir", "/tmp"]
        for path in _top()[1]:
            words += ["--ro-bind", path, path]
        words += ["--bind", "/proc", "/proc", "--dev-bind", "/dev", "/dev"]
        for number, source in enumerate(self._sources()):
            words += ["--ro-bind", source, f"/b{number}"]
        return words

    def _sources(self) -> list[str]:
        return [*self._binds().values(), *self._packages().values()]

    def _inner(
        self, handed: Handed, files: Mapping[str, bytes], limits: Limits, kept: Kept | None
    ) -> list[str]:
        size = ["--size", str(limits.disk_bytes), "--tmpfs"]
        words = ["--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
        words += ["--uid", str(USER), "--gid", str(USER), "--hostname", "sandbox"]
        words += ["--new-session", "--die-with-parent", "--clearenv"]
        words += ["--proc", "/proc", "--dev", "/dev", *size, "/dev/shm", "--remount-ro", "/dev"]
        words += [*size, "/tmp"] if kept is None else ["--bind", _KEPT, "/tmp"]
        words += [*_links(), *self._system(kept)]
        for name in ("python", "python3"):
            words += ["--symlink", str(self.interpreter.python), f"{_NAMES}/{name}"]
        for name, text in (("/etc/passwd", _PASSWD), ("/etc/group", _GROUP)):
            words += ["--ro-bind-data", handed.file(text), name]
        for name, data in files.items():
            words += ["--file", handed.file(data), _inside(name)]
        words += ["--remount-ro", "/", "--chdir", "/tmp"]
        words += ["--seccomp", handed.file(refusals())]
        return words

    def _system(self, kept: Kept | None) -> list[str]:
        relayed = self.root or kept is not None
        place = {s: f"/b{n}" if relayed else s for n, s in enumerate(self._sources())}
        words: list[str] = []
        for target, source in self._binds().items():
            words += ["--ro-bind", place[source], target]
        for site in map(str, self.interpreter.sites):
            words += ["--tmpfs", site]
        for target, source in self._packages().items():
            words += ["--ro-bind", place[source], target]
        for site in map(str, self.interpreter.sites):
            words += ["--remount-ro", site]
        return words


def _drop(uid: int) -> list[str]:
    return [tool("setpriv"), f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]


def _top() -> tuple[dict[str, str], list[str]]:
    """/bin, /lib and their like: links into /usr nearly everywhere, or directories."""
    names = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
    links = {name: os.readlink(name) for name in names if os.path.islink(name)}
    return links, [name for name in names if os.path.isdir(name) and name not in links]


def _links() -> list[str]:
    return [word for name, to in _top()[0].items() for word in ("--symlink", to, name)]


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"the file {name!r} is not below the working directory")
    return str(PurePosixPath("/tmp") / path)


def _environment(interpreter: Interpreter, env: Mapping[str, str]) -> list[str]:
    """All variables the program has. One thread: a result and a limit that hold on any machine."""
    given = {
        "PATH": f"{_NAMES}:{interpreter.prefix / 'bin'}:{TOOLS}",
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "USER": "user",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        **env,
    }
    return [word for name, value in given.items() for word in ("--setenv", name, value)]
