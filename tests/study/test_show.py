"""How far a study is, and when it ends, from what its trainings have written."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from loopcoder.study import show
from loopcoder.study.matrix import cells, training_recipe
from loopcoder.study.show import Board
from loopcoder.study.work import Job
from tests.study.recipes import tiny


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    study = tiny()
    return [
        Job(
            study=study.name,
            cell=cell,
            recipe=training_recipe(study, cell, {}),
            settings={},
            data=tmp_path,
            out=tmp_path / cell.name,
            records=tmp_path / "records" / cell.name,
        )
        for cell in cells(study)
    ]


def trained(job: Job, step: int) -> None:
    job.out.mkdir(exist_ok=True)
    (job.out / "metrics.jsonl").write_text(json.dumps({"step": step}) + "\n")


def clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(show.time, "monotonic", lambda: seconds)


def test_the_end_is_what_the_speed_so_far_makes_of_the_rest(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(monkeypatch, 0.0)
    board = Board({job.cell.name: 3600.0 for job in jobs})  # four models of an hour
    trained(jobs[0], 2)  # an earlier session did half of the first
    board.begins(jobs[0])
    assert board.line() == "plt-R1-s0 50%; 12% of all"
    clock(monkeypatch, 7200.0)
    trained(jobs[0], 4)  # this one needed two hours for the other half: four times as long
    line = board.line()
    around = [datetime.now() + timedelta(hours=12, minutes=minute) for minute in (-1, 0, 1)]
    assert line in {f"plt-R1-s0 100%; 25% of all, ends {end:%d %B %H:%M}" for end in around}


def test_what_is_finished_counts_whole(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock(monkeypatch, 0.0)
    board = Board({job.cell.name: 100.0 for job in jobs})
    for job in jobs[:2]:
        board.begins(job)
    clock(monkeypatch, 100.0)
    board.ends(jobs[0], {"bits_per_byte": 1.5, "wall_s": 100.0})
    said = capsys.readouterr().err
    assert "plt-R1-s0: 1.5000 bits per byte held out after 100 s, measured:" in said
    assert "plt-R2-s0 0%; 25% of all, ends" in said
    board.failed(jobs[1], ValueError("lost"))
    assert "plt-R2-s0: lost" in capsys.readouterr().err


def test_a_line_a_minute_and_none_without_work(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock(monkeypatch, 1000.0)
    board = Board(dict.fromkeys((job.cell.name for job in jobs), 0.0))
    board.tick()
    assert capsys.readouterr().err == ""
    board.begins(jobs[0])
    capsys.readouterr()
    board.tick()
    board.tick()
    assert capsys.readouterr().err.count("\n") == 1
    clock(monkeypatch, 1061.0)
    board.tick()
    assert "100% of all" in capsys.readouterr().err
