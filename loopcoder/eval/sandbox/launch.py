"""The command that makes one sandbox: bubblewrap's arguments, and the files they name.

As root, bubblewrap is started by a user without rights, whose number no other sandbox that runs
has, in a mount namespace where that user reaches the interpreter (`relay`).
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
from loopcoder.eval.sandbox.relay import KEPT, make_namespace
from loopcoder.eval.sandbox.seccomp import refusals
from loopcoder.eval.sandbox.supervise import GUARD, Launch
from loopcoder.eval.sandbox.types import Limits

USER = 1000  # as the program sees itself
TOOLS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FIRST_UID, _UIDS = 60_000, 4_000  # outside, when we are root: a range that systems leave alone
_NUMBERS = itertools.count(os.getpid())
_PASSWD = f"user:x:{USER}:{USER}::/tmp:/bin/sh\n".encode()
_GROUP = f"user:x:{USER}:\n".encode()
_OPEN_FILES = 128  # of each process; what they buffer is the kernel's memory, which nobody counts
_NAMES = "/run/bin"  # first on the program's path: `python` is the interpreter that is shown
_HOLD = ("/bin/sleep", "infinity")


@dataclass(frozen=True)
class Kept:
    """A /tmp that outlives its runs, in a mount namespace, or in a holder's if we are not root."""

    place: str  # where it is there
    uid: int = 0
    namespace: int | None = None
    holder: int | None = None  # a process


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
    """How the sandboxes of one interpreter are made.

    `point` is a directory to mount on; as root, there are the `sources` in `namespace`.
    """

    interpreter: Interpreter
    point: str = "/mnt"
    namespace: int | None = None

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
            command = [*self._before(kept), tool("bwrap"), *handed.arguments(inner), "--"]
            command += [*restrained(limits, limits.processes), *GUARD, *argv]
            namespace = self.namespace if kept is None else kept.namespace
            return handed.launch(command, stdin, namespace, lasting=kept is not None)

    def holder(self, limits: Limits) -> Launch:
        """Not as root: a process in whose namespace there is a /tmp that lasts until it ends."""
        with Handed() as handed:
            words = [
                "--ro-bind",
                "/",
                "/",
                "--bind",
                "/proc",
                "/proc",
                "--dev-bind",
                "/dev",
                "/dev",
            ]
            words += ["--size", str(limits.disk_bytes), "--tmpfs", self.point]
            words += ["--unshare-user", "--die-with-parent", "--clearenv", *handed.gates()]
            command = [tool("bwrap"), *handed.arguments(words), "--", *GUARD, *_HOLD]
            return handed.launch(command, b"", None)

    def keep(self, limits: Limits) -> Kept:
        """As root: a namespace with a /tmp that lasts; its descriptor is the caller's to close."""
        made = make_namespace(self.point, self.sources(), limits.disk_bytes)
        return Kept(place=f"{self.point}/{KEPT}", uid=unused_uid(), namespace=made)

    def _before(self, kept: Kept | None) -> list[str]:
        """What stands before bubblewrap."""
        if self.namespace is not None:
            uid = unused_uid() if kept is None else kept.uid
            return [tool("setpriv"), f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]
        if kept is not None:
            entered = ["--user", "--preserve-credentials", "--mount"]
            return [tool("nsenter"), "--target", str(kept.holder), *entered, "--"]
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

    def sources(self) -> list[str]:
        """Every path of this system that a sandbox shows."""
        return [*self._binds().values(), *self._packages().values()]

    def _inner(
        self, handed: Handed, files: Mapping[str, bytes], limits: Limits, kept: Kept | None
    ) -> list[str]:
        size = ["--size", str(limits.disk_bytes), "--tmpfs"]
        words = ["--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
        words += ["--uid", str(USER), "--gid", str(USER), "--hostname", "sandbox"]
        words += ["--new-session", "--die-with-parent", "--clearenv"]
        words += ["--proc", "/proc", "--dev", "/dev", *size, "/dev/shm", "--remount-ro", "/dev"]
        words += [*size, "/tmp"] if kept is None else ["--bind", kept.place, "/tmp"]
        words += [*_links(), *self._system()]
        for name in ("python", "python3"):
            words += ["--symlink", str(self.interpreter.python), f"{_NAMES}/{name}"]
        for name, text in (("/etc/passwd", _PASSWD), ("/etc/group", _GROUP)):
            words += ["--ro-bind-data", handed.file(text), name]
        for name, data in files.items():
            words += ["--file", handed.file(data), _inside(name)]
        words += ["--remount-ro", "/", "--chdir", "/tmp"]
        words += ["--seccomp", handed.file(refusals())]
        return words

    def _system(self) -> list[str]:
        relayed = self.namespace is not None
        place = {s: f"{self.point}/{n}" if relayed else s for n, s in enumerate(self.sources())}
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
