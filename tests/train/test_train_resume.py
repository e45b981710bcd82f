"""A run that was killed or stopped goes on bit for bit."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from loopcoder.errors import TrainingError
from loopcoder.train.checkpoints import complete_checkpoints
from loopcoder.train.records import MetricsFile, read_json, read_metrics
from loopcoder.train.run import RunResult, train
from tests.train.train_helpers import tiny_recipe, write_shards

pytestmark = pytest.mark.slow

# Real processes that end by a real SIGKILL, each at a place in the run that no timing can move.
# One process imports the libraries and forks one victim for each place, before any thread exists.
HARNESS = """
import os, signal, sys
from pathlib import Path
import loopcoder.train.checkpoints as checkpoints
from loopcoder.train.records import MetricsFile
from loopcoder.train.run import train
from tests.train.train_helpers import tiny_recipe

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def victim(where, out, data):
    append, rename, rmtree = MetricsFile.append, Path.rename, checkpoints.shutil.rmtree

    def dying_append(self, row):
        append(self, row)
        if where == f"step {row['step']}":
            die()

    def dying_rename(self, target):
        if where == f"before {Path(target).name}":
            die()
        return rename(self, target)

    def dying_rmtree(path, *args, **kwargs):
        if where == "removing" and "old" in str(path):
            os.unlink(Path(path) / "optimizer.pt")
            die()
        rmtree(path, *args, **kwargs)

    MetricsFile.append, Path.rename = dying_append, dying_rename
    checkpoints.shutil.rmtree = dying_rmtree
    train(tiny_recipe(), out=out, data=data)

data, runs, *places = sys.argv[1:]
for place in places:
    child = os.fork()
    if child == 0:
        victim(place, Path(runs) / place, Path(data))
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL, place
"""
PLACES = {
    "step 2": [],
    "step 7": ["checkpoint-4"],
    "before checkpoint-8": ["checkpoint-4"],
    "removing": ["checkpoint-8", "checkpoint-12"],
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data") / "shards")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, shards: Path) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    train(tiny_recipe(), out=out, data=shards)
    return out


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, shards: Path) -> Path:
    """A directory of runs, each killed at the place that is its name."""
    runs = tmp_path_factory.mktemp("killed")
    result = subprocess.run(
        [sys.executable, "-c", HARNESS, str(shards), str(runs), *PLACES],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return runs


def assert_same_run(out: Path, expected: Path) -> None:
    """Final weights, the optimizer's state and the whole loss curve, bit for bit."""
    for name in ("final/model.safetensors", "checkpoint-12/model.safetensors"):
        first, second = load_file(out / name), load_file(expected / name)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first), name
    states = [torch.load(run / "checkpoint-12" / "optimizer.pt") for run in (out, expected)]
    for index, moments in states[0]["state"].items():
        for key, value in moments.items():
            assert torch.equal(value, states[1]["state"][index][key]), (index, key)
    assert losses(out) == losses(expected)


def losses(out: Path) -> list[tuple[str, int, float, float | None]]:
    rows = read_metrics(out / "metrics.jsonl")
    return [(row["kind"], row["step"], row["loss"], row.get("lr")) for row in rows]


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_run_goes_on_bit_for_bit(
    place: str, killed: Path, shards: Path, uninterrupted: Path
) -> None:
    out = killed / place
    assert [path.name for path in complete_checkpoints(out)] == PLACES[place]
    train(tiny_recipe(), out=out, data=shards, resume=True)
    assert_same_run(out, uninterrupted)
    assert not list(out.glob(".partial*"))


def interrupted(
    out: Path, shards: Path, *, step: int, number: int, assignments: Sequence[str] = ()
) -> RunResult:
    """Send a signal to this very process when the row of `step` is written."""
    append = MetricsFile.append

    def interrupting(self: MetricsFile, row: dict[str, float]) -> None:
        append(self, row)
        if row["step"] == step and row["kind"] == "train":
            signal.raise_signal(number)

    MetricsFile.append = interrupting  # type: ignore[method-assign, assignment]
    try:
        return train(tiny_recipe(*assignments), out=out, data=shards)
    finally:
        MetricsFile.append = append  # type: ignore[method-assign]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_stops(
    number: int, tmp_path: Path, shards: Path, uninterrupted: Path
) -> None:
    out = tmp_path / "run"
    handler = signal.getsignal(number)
    result = interrupted(out, shards, step=5, number=number)
    assert (result.step, result.summary) == (6, None)
    assert complete_checkpoints(out)[-1].name == "checkpoint-6"
    assert signal.getsignal(number) == handler
    assert not (out / "final").exists()
    assert train(tiny_recipe(), out=out, data=shards, resume=True).summary is not None
    assert_same_run(out, uninterrupted)


def test_drawn_loop_counts_go_on_bit_for_bit(tmp_path: Path, shards: Path) -> None:
    assignments = ["loops.sample=[1, 3]", "loops.loss=every", "model.plt_num_loops=3"]
    whole, out = tmp_path / "whole", tmp_path / "run"
    train(tiny_recipe(*assignments), out=whole, data=shards)
    interrupted(out, shards, step=5, number=signal.SIGINT, assignments=assignments)
    with pytest.raises(TrainingError, match=r"loops\.loss is None, and the run began with 'every'"):
        train(tiny_recipe("model.plt_num_loops=3"), out=out, data=shards, resume=True)
    train(tiny_recipe(*assignments), out=out, data=shards, resume=True)
    assert_same_run(out, whole)
    rows = [read_metrics(run / "metrics.jsonl") for run in (out, whole)]
    for name in ("loops", "objective", "loss_of_loop_1", "loss_with_3_loops"):
        first, second = ([row.get(name) for row in run] for run in rows)
        assert first == second
        assert any(number is not None for number in first)
    scores = [read_json(run / "run.json")["heldout_by_loops"] for run in (out, whole)]
    assert scores[0] == scores[1]


def test_what_changes_the_results_may_not_change(tmp_path: Path, shards: Path) -> None:
    out = tmp_path / "run"
    interrupted(out, shards, step=2, number=signal.SIGINT)
    for assignment, field in {
        "optim.peak_lr=0.02": r"optim\.peak_lr is 0\.02, and the run began with 0\.01",
        "run.steps=13": r"run\.steps is 13",
        "run.seed=1": r"run\.seed is 1",
        "data.seed=1": r"data\.seed is 1",
        "run.bf16=true": r"run\.bf16 is True",
        "model.plt_num_loops=1": r"plt_num_loops is 1, and the run began with 2",
    }.items():
        with pytest.raises(TrainingError, match=field):
            train(tiny_recipe(assignment), out=out, data=shards, resume=True)
    other = write_shards(tmp_path / "other", seed=1)
    with pytest.raises(TrainingError, match="manifest_hash is"):
        train(tiny_recipe(), out=out, data=other, resume=True)


def test_what_does_not_may(tmp_path: Path, shards: Path, uninterrupted: Path) -> None:
    out = tmp_path / "run"
    interrupted(out, shards, step=5, number=signal.SIGINT)
    moved = tmp_path / "moved"
    shards_copy = write_shards(moved)
    recipe = tiny_recipe("run.log_every=2", "run.eval_every=3", "run.save_every=12", "run.keep=1")
    train(recipe, out=out, data=shards_copy, resume=True)
    first, second = (load_file(run / "final/model.safetensors") for run in (out, uninterrupted))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_run_killed_before_its_end_was_written(
    tmp_path: Path, shards: Path, uninterrupted: Path
) -> None:
    """All steps are done and saved, `final` is not: resuming only has to write it."""
    out = tmp_path / "run"
    shutil.copytree(uninterrupted, out)
    shutil.rmtree(out / "final")
    (out / "run.json").unlink()
    train(tiny_recipe(), out=out, data=shards, resume=True)
    assert_same_run(out, uninterrupted)


def test_a_half_written_row_is_dropped(tmp_path: Path) -> None:
    rows = [{"kind": "train", "step": step, "seconds": step / 10} for step in (1, 2, 3)]
    metrics = MetricsFile(tmp_path, 0)
    for row in rows:
        metrics.append(row)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "tra')
    resumed = MetricsFile(tmp_path, 2)
    assert read_metrics(tmp_path / "metrics.jsonl") == rows[:2]
    assert resumed.seconds == 0.2
