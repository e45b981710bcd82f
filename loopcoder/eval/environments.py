"""Tools that need other versions of libraries than ours live in environments of their own."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from loopcoder.errors import EvaluationError
from loopcoder.home import cache_home

READY = "ready"  # written last, so that a half-made environment is made again


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A tool's own Python: which distributions it needs, and a module that proves it is there.

    `python` is a version (such as "3.10") where the tool does not run with this one.
    """

    name: str
    requirements: tuple[str, ...]
    module: str
    python: str | None = None

    @property
    def variable(self) -> str:
        """The environment variable that names another interpreter to use."""
        return f"LOOPCODER_EVAL_PYTHON_{self.name.upper().replace('-', '_')}"

    @property
    def directory(self) -> Path:
        """Where `setup` makes it."""
        return cache_home() / "environments" / self.name

    def interpreter(self) -> Path | None:
        """Its Python, or None where it has not been set up."""
        chosen = os.environ.get(self.variable)
        if chosen:
            return Path(chosen) if Path(chosen).exists() else None
        return self.directory / "bin" / "python" if (self.directory / READY).exists() else None

    def require(self) -> Path:
        """Its Python. Raises `EvaluationError` with the command that makes it."""
        found = self.interpreter()
        if found is None:
            raise EvaluationError(
                f"{self.name} needs an environment of its own; run `loopcoder eval setup "
                f"{self.name}`, or name its Python in {self.variable}"
            )
        return found

    def setup(self) -> Path:
        """Make it, with pip, unless it is there. Raises `EvaluationError` with pip's last words."""
        found = self.interpreter()
        if found is not None:
            return found
        shutil.rmtree(self.directory, ignore_errors=True)
        _run([self._base(), "-m", "venv", str(self.directory)])
        python = str(self.directory / "bin" / "python")
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, *self.requirements])
        _run([python, "-c", f"import {self.module}"])
        (self.directory / READY).touch()
        return Path(python)

    def _base(self) -> str:
        if self.python is None:
            return sys.executable
        found = shutil.which(f"python{self.python}")
        if found is None:
            raise EvaluationError(
                f"{self.name} needs Python {self.python}, which is not here; install it, or name a "
                f"Python that has {', '.join(self.requirements)} in {self.variable}"
            )
        return found


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise EvaluationError(
            f"`{' '.join(command)}` failed ({' '.join(last)}); mend that and run it again"
        )
