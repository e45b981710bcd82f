"""The checkpoints of a run: whole or not there at all, whenever the process dies."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loopcoder.errors import TrainingError

_NAME = re.compile(r"checkpoint-(\d+)")
_PARTIAL = ".partial-"
NEEDED = (
    "config.json",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
)


def step_of(checkpoint: Path) -> int:
    """The optimizer step that a checkpoint was written after."""
    match = _NAME.fullmatch(checkpoint.name)
    assert match is not None, checkpoint
    return int(match[1])


def complete_checkpoints(out: Path) -> list[Path]:
    """The checkpoints in `out`, oldest first; a half-written one never has such a name."""
    found = [path for path in out.glob("checkpoint-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=step_of)


def newest_checkpoint(out: Path) -> Path | None:
    """The checkpoint to go on from. Raises `TrainingError` if somebody took files out of it."""
    checkpoints = complete_checkpoints(out)
    if not checkpoints:
        return None
    for name in NEEDED:
        if not (checkpoints[-1] / name).is_file():
            raise TrainingError(
                f"{checkpoints[-1]} lacks {name}; remove that directory to resume from the one "
                "before it"
            )
    return checkpoints[-1]


@contextmanager
def whole_checkpoint(out: Path, step: int, keep: int) -> Iterator[Path]:
    """Yield a directory to write `checkpoint-{step}` in; then it gets its place in `out`.

    The bytes are on the disk before the name is. Older ones go, until `keep` are left.
    """
    staging = out / f"{_PARTIAL}{step}"
    remove_partial(out)
    staging.mkdir()
    yield staging
    name = f"checkpoint-{step}"
    for path in sorted((staging / name).rglob("*"), reverse=True):
        _sync(path)
    _sync(staging / name)
    if (out / name).exists():  # the same step of the same run: the same bytes
        shutil.rmtree(staging)
        return
    (staging / name).rename(out / name)
    _sync(out)
    staging.rmdir()
    for old in complete_checkpoints(out)[:-keep]:
        _remove(old)


def remove_partial(out: Path) -> None:
    """Clear away what a killed process left behind."""
    for path in out.glob(f"{_PARTIAL}*"):
        shutil.rmtree(path)


def _remove(checkpoint: Path) -> None:
    # Its name goes first, so that a half-removed one is never taken for a whole one.
    gone = checkpoint.with_name(f"{_PARTIAL}old-{step_of(checkpoint)}")
    checkpoint.rename(gone)
    shutil.rmtree(gone)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
