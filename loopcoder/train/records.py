"""What a run writes about itself: `recipe.json`, `metrics.jsonl` and `run.json`."""

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from loopcoder.errors import TrainingError
from loopcoder.records import machine

SCHEMA = 1
RECIPE_FILE = "recipe.json"
METRICS_FILE = "metrics.jsonl"
SUMMARY_FILE = "run.json"


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file that is whole or not there."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object that a run wrote. Raises `TrainingError` naming the file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{path}: cannot be read ({error}); start the run anew in another directory"
        ) from error
    if not isinstance(values, dict):
        raise TrainingError(f"{path}: holds no JSON object; start the run anew elsewhere")
    return values


class MetricsFile:
    """`metrics.jsonl`: one row a measurement, `kind` "train" or "heldout".

    Every row has step, tokens and seconds. Opening drops the rows after `step`, which a resumed
    run measures again, and a last row that a killed process left half-written.
    """

    def __init__(self, out: Path, step: int) -> None:
        self.path = out / METRICS_FILE
        rows = [row for row in read_metrics(self.path) if row["step"] <= step]
        self.seconds = max((row["seconds"] for row in rows), default=0.0)
        self.path.write_text("".join(map(_line, rows)), encoding="utf-8")

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one row; it is in the file when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(row))


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row) + "\n"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`, as far as they are whole; none if there is no file."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def versions() -> dict[str, str]:
    """What the numbers of a run depend on beside its recipe."""
    names = ("loopcoder", "torch", "transformers", "accelerate", "numpy")
    return {"python": platform.python_version(), **{name: _version(name) for name in names}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def device_name(device: torch.device) -> str:
    """The accelerator's name, or the processor's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return str(machine()["processor"])
