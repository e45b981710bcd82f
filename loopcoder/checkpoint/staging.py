"""A directory that appears complete or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loopcoder.errors import CheckpointError, file_errors

_MARGIN = 64 * 2**20  # bytes kept free for the small files and the file system


@contextmanager
def staged_directory(
    directory: Path, *, force: bool = False, nbytes: int = 0, marker: str = "config.json"
) -> Iterator[Path]:
    """Yield a temporary directory beside `directory` that takes its name when all went well.

    On an error it is removed and `directory` is as before. `force` replaces an existing
    checkpoint, which is recognised by its `marker` file; other full directories are never
    replaced. Raises `CheckpointError` before anything is written when `directory` is taken or
    the disk has less than `nbytes` free.
    """
    directory = Path(os.path.abspath(directory))
    _check_free(directory, force, marker)
    with file_errors(CheckpointError, "choose a directory that can be written"):
        directory.parent.mkdir(parents=True, exist_ok=True)
        check_disk(directory.parent, nbytes)
        staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        yield staging
        _make_public(staging)
        _move_into_place(staging, directory)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _check_free(directory: Path, force: bool, marker: str) -> None:
    if not directory.exists():
        return
    if not directory.is_dir():
        raise CheckpointError(f"{directory} is a file; give the name of a new directory")
    if not any(directory.iterdir()):
        return
    if not force:
        raise CheckpointError(
            f"{directory} is not empty; give a new directory, or force (--force) to replace it"
        )
    if not (directory / marker).is_file():
        raise CheckpointError(
            f"{directory} is not empty and has no {marker}, so it is not replaced; "
            "give a new directory"
        )


def check_disk(directory: Path, nbytes: int) -> None:
    """Raise `CheckpointError` unless the disk of `directory` has room for `nbytes`."""
    free = shutil.disk_usage(directory).free
    if nbytes and free < nbytes + _MARGIN:
        raise CheckpointError(
            f"{directory} has {free / 1e9:.1f} GB free, but {nbytes / 1e9:.1f} GB are to be "
            "written; free some space or choose another disk"
        )


def _move_into_place(staging: Path, directory: Path) -> None:
    if not directory.exists() or not any(directory.iterdir()):
        staging.rename(directory)  # an empty directory is replaced by rename itself
        return
    old = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    directory.rename(old)
    try:
        staging.rename(directory)
    except OSError:
        old.rename(directory)
        raise
    shutil.rmtree(old)


def _make_public(directory: Path) -> None:
    # mkdtemp and safetensors make private files; a checkpoint has the usual permissions.
    mask = os.umask(0)
    os.umask(mask)
    directory.chmod(0o777 & ~mask)
    for path in directory.iterdir():
        path.chmod(0o666 & ~mask)
