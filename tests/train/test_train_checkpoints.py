"""A checkpoint has its name only when it is whole."""

from pathlib import Path

import pytest

from loopcoder.errors import TrainingError
from loopcoder.train.checkpoints import (
    NEEDED,
    complete_checkpoints,
    newest_checkpoint,
    remove_partial,
    whole_checkpoint,
)


def write(out: Path, step: int, keep: int = 10, content: str = "x") -> None:
    with whole_checkpoint(out, step, keep) as folder:
        checkpoint = folder / f"checkpoint-{step}"
        checkpoint.mkdir()
        for name in NEEDED:
            (checkpoint / name).write_text(content)


def names(out: Path) -> list[str]:
    return [path.name for path in complete_checkpoints(out)]


def test_steps_are_numbers_not_text(tmp_path: Path) -> None:
    for step in (5, 40, 100):
        write(tmp_path, step)
    assert names(tmp_path) == ["checkpoint-5", "checkpoint-40", "checkpoint-100"]
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-100"
    assert newest_checkpoint(tmp_path / "nothing") is None


def test_old_ones_go(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        write(tmp_path, step, keep=2)
    assert names(tmp_path) == ["checkpoint-3", "checkpoint-4"]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_broken_write_leaves_no_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, 1, keep=1)

    def interrupted() -> None:
        with whole_checkpoint(tmp_path, 2, keep=1) as folder:
            (folder / "checkpoint-2").mkdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-1"
    remove_partial(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]
    write(tmp_path, 2, keep=1)
    assert names(tmp_path) == ["checkpoint-2"]


def test_a_step_is_saved_once(tmp_path: Path) -> None:
    write(tmp_path, 3, content="old")
    write(tmp_path, 3, content="new")
    assert (tmp_path / "checkpoint-3" / "config.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


def test_a_damaged_one_is_named(tmp_path: Path) -> None:
    write(tmp_path, 3)
    (tmp_path / "checkpoint-3" / "optimizer.pt").unlink()
    with pytest.raises(TrainingError, match=r"checkpoint-3 lacks optimizer\.pt"):
        newest_checkpoint(tmp_path)
