"""A run's output directory: whose it is, and where a resumed run goes on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loopcoder.errors import TrainingError, file_errors
from loopcoder.train.checkpoints import newest_checkpoint, remove_partial
from loopcoder.train.recipe import FREE
from loopcoder.train.records import RECIPE_FILE, SUMMARY_FILE, read_json, write_json


def open_directory(out: Path, record: Mapping[str, Any], *, resume: bool) -> Path | None:
    """The checkpoint to go on from; None to begin with the first step.

    Raises `TrainingError` for a fresh run in a directory in use, and for a resumed one where no
    run began, where it is finished, or where another recipe or other data began it.
    """
    if not resume:
        _begin(out, record)
        return None
    if not (out / RECIPE_FILE).is_file():
        raise TrainingError(f"{out}: no run began here, so none can be resumed; leave out --resume")
    _check_same(out, read_json(out / RECIPE_FILE), record)
    if (out / SUMMARY_FILE).is_file():
        raise TrainingError(f"{out}: this run is finished; its model is {out / 'final'}")
    remove_partial(out)
    return newest_checkpoint(out)


def _begin(out: Path, record: Mapping[str, Any]) -> None:
    if out.exists() and not out.is_dir():
        raise TrainingError(f"{out}: is a file; give the name of a directory")
    with file_errors(TrainingError, "choose a directory that can be written"):
        out.mkdir(parents=True, exist_ok=True)
    # Names with a dot are files that a killed process had not finished.
    if any(not path.name.startswith(".") for path in out.iterdir()):
        raise TrainingError(
            f"{out}: is not empty; --resume goes on with its run, --out starts anew"
        )
    write_json(out / RECIPE_FILE, record)


def _check_same(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    found = difference(before, now)
    if found is not None:
        field, was, is_ = found
        raise TrainingError(
            f"{out}: {field} is {is_!r}, and the run began with {was!r}; resume "
            "with the recipe and data that it began with, or start anew with another --out"
        )


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first field in which two records of a run differ, and its values; None if in none.

    Fields that change no result (`FREE`) may differ.
    """
    was, is_ = _flat(before), _flat(now)
    for key in sorted(was.keys() | is_.keys()):
        field = key.removeprefix("recipe.")
        if field not in FREE and was.get(key) != is_.get(key):
            return field, was.get(key), is_.get(key)
    return None


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
