"""A whole evaluator in bubblewrap: it runs the model's code by itself, so it is locked up too.

It sees the system, its own Python and the benchmark's files, all read-only, has no network, a small
private /tmp, one directory to write to, and, even if we are root, an unprivileged user. What the
model's code could still do is change the evaluator's report: the harness gives no more.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

UID = 59_999  # a user that owns nothing; its processes alone count towards PROCESSES
PROCESSES = 1024
FILE_BYTES = 1 << 30
TMP_BYTES = 1 << 30
_ETC = ("alternatives", "ld.so.cache", "localtime", "java*", "perl", "fonts", "mono", "php")


def contained(
    command: Sequence[str],
    *,
    readable: Iterable[Path],
    writable: Path,
    environment: Mapping[str, str],
) -> list[str]:
    """The command that runs `command` locked up, in `writable`, seeing `readable` as they are.

    `writable` is given to the unprivileged user. Raises nothing: `needs.sandbox_need` says before
    whether bubblewrap is there.
    """
    _give(writable)
    shown = [path for path in map(Path, readable) if not path.is_relative_to("/usr")]
    root = os.geteuid() == 0
    argv = ["bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    argv += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--clearenv"]
    argv += ["--cap-drop", "ALL"] + (_CAPABILITIES if root else ["--unshare-user"])
    argv += [*_system(), "--proc", "/proc", "--dev", "/dev"]
    argv += [*_tmpfs("/tmp"), *_tmpfs("/dev/shm")]
    for directory in _parents([*shown, writable]):
        argv += ["--perms", "0755", "--dir", str(directory)]
    for path in shown:
        argv += ["--ro-bind", str(path), str(path)]
    argv += ["--bind", str(writable), str(writable)]
    for name, value in {**_ENVIRONMENT, **environment}.items():
        argv += ["--setenv", name, value]
    # The unprivileged user enters the directory itself: it may be closed to all others.
    enter = ["env", f"--chdir={writable}"]
    return [*argv, "--", *(_DROP if root else []), *_LIMITS, *enter, *command]


def python_prefixes(python: Path) -> tuple[Path, ...]:
    """What a Python needs to see of the disk: its environment, and the installation below it."""
    directory = python.absolute().parent.parent
    settings = directory / "pyvenv.cfg"
    if not settings.exists():
        return (python.resolve().parent.parent,)
    pairs = (line.partition("=") for line in settings.read_text(encoding="utf-8").splitlines())
    home = next(Path(value.strip()) for name, _, value in pairs if name.strip() == "home")
    return (directory, home.resolve().parent, python.resolve().parent.parent)


_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/tmp",
    "USER": "nobody",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
}
_CAPABILITIES = [
    *("--cap-add", "CAP_SETUID"),
    *("--cap-add", "CAP_SETGID"),
    *("--cap-add", "CAP_SETPCAP"),
]
_DROP = [
    *("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--no-new-privs"),
    *("--inh-caps=-all", "--bounding-set=-all"),
]
_LIMITS = ["prlimit", f"--nproc={PROCESSES}", f"--fsize={FILE_BYTES}", "--core=0"]


def _system() -> list[str]:
    """/usr and what belongs to it, as this machine lays it out."""
    argv = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = Path("/", name)
        if path.is_symlink():
            argv += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            argv += ["--ro-bind", str(path), str(path)]
    argv += ["--perms", "0755", "--dir", "/etc"]
    for path in (found for name in _ETC for found in sorted(Path("/etc").glob(name))):
        argv += ["--ro-bind", str(path), str(path)]
    return argv


def _tmpfs(path: str) -> list[str]:
    return ["--perms", "1777", "--size", str(TMP_BYTES), "--tmpfs", path]


def _parents(paths: Iterable[Path]) -> list[Path]:
    """The directories above these, outermost first: bubblewrap would close them to other users."""
    above = {parent for path in paths for parent in path.parents if parent != Path("/")}
    return sorted(above - {Path("/tmp"), Path("/dev")}, key=lambda path: len(path.parts))


def _give(directory: Path) -> None:
    """Let the unprivileged user write there; links are not followed."""
    if os.geteuid() != 0:
        return
    os.chown(directory, UID, UID)
    for here, directories, files in os.walk(directory):
        for name in (*directories, *files):
            os.chown(Path(here, name), UID, UID, follow_symlinks=False)
