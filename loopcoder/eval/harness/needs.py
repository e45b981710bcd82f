"""The needs that several benchmarks share, each with what to type where it is missing."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from loopcoder.errors import EvaluationError
from loopcoder.eval.environments import Environment
from loopcoder.eval.harness.base import HarnessRun, Need
from loopcoder.eval.harness.contained import contained
from loopcoder.eval.harness.process import served

GIB = 1 << 30


def environment_need(environment: Environment) -> Need:
    """The harness itself, in its own Python."""
    found = environment.interpreter()
    tools = ", ".join(environment.alone or environment.requirements)
    return Need(
        what=f"{tools} in a Python of its own",
        found=found is not None,
        remedy=f"loopcoder eval setup {environment.name} (or name its Python in "
        f"{environment.variable})",
    )


def server_need(run: HarnessRun) -> Need:
    """The served model."""
    return Need(
        what=f"{run.model} served at {run.base_url}",
        found=served(run.base_url, run.api_key),
        remedy=f"loopcoder serve --model {run.model} --port 8000, and its address with /v1",
    )


def sandbox_need() -> Need:
    """Bubblewrap that really starts a process: some systems refuse it namespaces."""
    return Need(
        what="bubblewrap, to run the model's code in",
        found=_bubblewrap_starts(),
        remedy="apt install bubblewrap util-linux, and allow user namespaces "
        "(sysctl kernel.unprivileged_userns_clone=1)",
    )


def disk_need(directory: Path, gib: int) -> Need:
    """Free disk where the run writes."""
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    return Need(
        what=f"{gib} GiB of free disk at {directory}",
        found=free >= gib * GIB,
        remedy=f"free some space ({free / GIB:.1f} GiB are free), or choose another --out",
    )


def data_need(data: Path | None, glob: str, *, what: str, remedy: str) -> Need:
    """The benchmark's files: something in `data` that matches `glob`."""
    found = data is not None and next(data.glob(glob), None) is not None
    return Need(what=what, found=found, remedy=remedy)


def docker_needs(*, gigabytes: int, purpose: str) -> list[Need]:
    """Docker's program, its daemon, and free disk where the daemon keeps its images."""
    program = shutil.which("docker") is not None
    root = _docker_root() if program else None
    where = Path(root or "/var/lib/docker")
    there = next(path for path in (where, *where.parents) if path.exists())
    free = shutil.disk_usage(there).free / 1e9
    return [
        Need(what="docker", found=program, remedy="install Docker (docs.docker.com/engine)"),
        Need(
            what="a Docker daemon that answers",
            found=root is not None,
            remedy="start it (systemctl start docker), and see that `docker info` works",
        ),
        Need(
            what=f"{gigabytes} GB of free disk at {where} for {purpose}",
            found=free >= gigabytes,
            remedy=f"{free:.0f} GB are free: make room, or move Docker's data-root",
        ),
    ]


def require(name: str, needs: Iterable[Need]) -> None:
    """Raises `EvaluationError` that names everything missing, and what to type for each."""
    missing = [f"{need.what}: {need.remedy}" for need in needs if not need.found]
    if missing:
        raise EvaluationError(f"{name} cannot run here, missing: {'; '.join(missing)}")


def _docker_root() -> str | None:
    asked = ["docker", "info", "--format", "{{.DockerRootDir}}"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:  # a daemon that is there and stuck
        return None
    # Without a daemon the client prints an empty line, in some versions with status 0.
    return done.stdout.strip() or None if done.returncode == 0 else None


def _bubblewrap_starts() -> bool:
    if not all(shutil.which(tool) for tool in ("bwrap", "setpriv", "prlimit")):
        return False
    with tempfile.TemporaryDirectory() as directory:
        argv = contained(["true"], readable=(), writable=Path(directory), environment={})
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0
