"""Where one run's files lie, and the environment its programs get."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from loopcoder.errors import EvaluationError, file_errors
from loopcoder.eval.harness.base import HarnessRun

ADVICE = "choose an --out directory that can be written"


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """`work` is all that the evaluator may write to; `inputs` is what it reads; `log` is ours."""

    work: Path
    inputs: Path
    log: Path


def workspace(name: str, run: HarnessRun, values: Mapping[str, str]) -> Workspace:
    """The directories of this run; the same settings find them again, so a cut-off run goes on.

    Raises `EvaluationError` where the system refuses to write.
    """
    settings = {**asdict(run), **values, "base_url": "", "api_key": "", "out": "", "workers": 0}
    digest = hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:12]
    home = run.out.absolute() / f"{name}-{digest}"
    found = Workspace(work=home / "work", inputs=home / "inputs", log=home / "log.txt")
    with file_errors(EvaluationError, ADVICE):
        found.work.mkdir(parents=True, exist_ok=True)
        found.inputs.mkdir(exist_ok=True)
    return found


def link(place: Path, target: Path) -> None:
    """Make `place` a link to `target`, whatever it was a link to before."""
    with file_errors(EvaluationError, ADVICE):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(target.absolute())


def plain_environment(home: Path, **more: str) -> dict[str, str]:
    """What a harness gets of ours: where programs are. Its caches go to `home`, no hub is asked."""
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "HF_HOME": str(home / "hub"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",  # the log's last line is then the last thing said
        **more,
    }
