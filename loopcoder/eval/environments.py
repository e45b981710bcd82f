"""Tools that need other versions of libraries than ours live in environments of their own."""

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loopcoder.errors import EvaluationError, file_errors
from loopcoder.home import cache_home

READY = "ready"  # written last, with what was installed: a half-made or old one is made again


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A tool's own Python: which distributions it needs, and a module that proves it is there.

    `alone` are installed without what they depend on, where a tool asks for far more than the part
    that is used here needs. `python` is a version (such as "3.10") where the tool does not run with
    this one. With `ours` it sees this Python's libraries too, LoopCoder among them, and adds to
    them.
    """

    name: str
    requirements: tuple[str, ...]
    module: str
    python: str | None = None
    alone: tuple[str, ...] = ()
    ours: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that names another interpreter to use."""
        return f"LOOPCODER_EVAL_PYTHON_{self.name.upper().replace('-', '_')}"

    @property
    def directory(self) -> Path:
        """Where `setup` makes it."""
        return cache_home() / "environments" / self.name

    def interpreter(self) -> Path | None:
        """Its Python, or None where it has not been set up (as this version wants it)."""
        chosen = os.environ.get(self.variable)
        if chosen:
            return Path(chosen) if Path(chosen).exists() else None
        try:
            installed = (self.directory / READY).read_text(encoding="utf-8")
        except OSError:
            return None
        return self._own_python if installed == self._contents else None

    def require(self) -> Path:
        """Its Python. Raises `EvaluationError` with the command that makes it."""
        found = self.interpreter()
        if found is None:
            self._refuse_missing_choice()
            raise EvaluationError(
                f"{self.name} needs an environment of its own; run `loopcoder eval setup "
                f"{self.name}`, or name its Python in {self.variable}"
            )
        return found

    def setup(self) -> Path:
        """Make it, with pip, unless it is there. Raises `EvaluationError` with pip's last words."""
        self._refuse_missing_choice()
        with self._alone_at_work():
            found = self.interpreter()
            if found is None:
                self._make()
                found = self._own_python
        return found

    def _make(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        self._run([self._base(), "-m", "venv", str(self.directory)])
        if self.ours:
            (site,) = self.directory.glob("lib/python*/site-packages")
            libraries = sysconfig.get_paths()["purelib"]
            # A path alone would leave out what is installed there in place, as by `pip install -e`.
            line = f"import site; site.addsitedir({libraries!r})\n"
            (site / "ours.pth").write_text(line, encoding="utf-8")
        python = str(self._own_python)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if self.requirements:
            self._run([*pip, *self.requirements])
        if self.alone:
            self._run([*pip, "--no-deps", *self.alone])
        self._run([python, "-I", "-c", f"import {self.module}"])
        (self.directory / READY).write_text(self._contents, encoding="utf-8")

    @property
    def _own_python(self) -> Path:
        return self.directory / "bin" / "python"

    @property
    def _contents(self) -> str:
        with_ours = ("ours",) if self.ours else ()
        return "\n".join((*self.requirements, "alone:", *self.alone, *with_ours))

    @contextmanager
    def _alone_at_work(self) -> Iterator[None]:
        """One process at a time makes it; the others wait and find it made."""
        lock = self.directory.with_name(f".{self.name}.lock")
        with file_errors(EvaluationError, "LOOPCODER_HOME names another place to keep it"):
            lock.parent.mkdir(parents=True, exist_ok=True)
            with lock.open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield

    def _refuse_missing_choice(self) -> None:
        chosen = os.environ.get(self.variable)
        if chosen and not Path(chosen).exists():
            raise EvaluationError(
                f"{self.variable} names {chosen}, which does not exist; name a Python that has "
                f"{', '.join((*self.requirements, *self.alone))}, or unset it"
            )

    def _base(self) -> str:
        if self.python is None:
            return sys.executable
        found = shutil.which(f"python{self.python}")
        # A version manager's shim is there without the version itself.
        if found is None or not _runs(found):
            raise EvaluationError(
                f"{self.name} needs Python {self.python}, which is not here; install it, or name a "
                f"Python that has {', '.join((*self.requirements, *self.alone))} in {self.variable}"
            )
        return found

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise EvaluationError(
                f"the environment of {self.name} could not be made: `{' '.join(command)}` failed "
                f"({_last_words(done.stderr or done.stdout)}); mend that and run it again"
            )


def _runs(python: str) -> bool:
    return not subprocess.run([python, "-V"], capture_output=True, check=False).returncode


def _last_words(output: str) -> str:
    """The last line that says what went wrong, else the last one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["it said nothing"])[-1]


# Its tasks run by `PYTHON -m inspect_ai eval inspect_evals/NAME --model loopcoder/MODEL`.
INSPECT_EVALS = Environment(
    name="inspect-evals",
    requirements=("inspect-evals[mind2web]==0.26.0", "openai>=2"),
    module="inspect_evals.mind2web, openai",
    ours=True,
)
