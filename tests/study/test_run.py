"""A whole study at a tiny size: files, going on, changes, mistakes."""

import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from loopcoder.errors import DataError, TrainingError
from loopcoder.loopcount import read_evidence
from loopcoder.records.files import read_records
from loopcoder.records.rows import DepthRow, TrainingRow
from loopcoder.study.run import StudyResult
from loopcoder.train.records import read_json
from tests.study.recipes import rows, run, tiny

pytestmark = pytest.mark.slow

ARMS = [
    {"name": "plt"},
    {
        "name": "serial",
        "loops": [2],
        "seeds": [0],
        "set": {"model.plt_loop_offset": 0, "model.plt_gated_window": False},
    },
    {"name": "elastic", "loops": [2], "seeds": [0], "set": {"loops.sample": [1, 2]}},
]
TUNE = {"steps": 2, "grid": {"optim.peak_lr": [0.002, 0.01]}}
NAMES = ["elastic-R2-s0", "plt-R1-s0", "plt-R1-s1", "plt-R2-s0", "plt-R2-s1", "serial-R2-s0"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    out = tmp_path_factory.mktemp("studies") / "tiny"
    return run(tiny(arms=ARMS, tune=TUNE), out, processes=2)


def test_every_model_is_trained_and_measured(finished: StudyResult) -> None:
    assert finished.finished
    assert sorted(finished.summaries) == NAMES
    records = finished.out / "records"
    assert sorted(path.name for path in records.iterdir()) == [*NAMES, "trials.jsonl"]
    assert (finished.out / "report.html").stat().st_size > 10_000
    assert read_json(finished.out / "advice.json")["question"] == "train and run"


def test_rows_say_what_was_trained(finished: StudyResult) -> None:
    for name in NAMES:
        found = read_records(finished.out / "records" / name / "study.jsonl")
        training = next(row for row in found if isinstance(row, TrainingRow))
        summary = finished.summaries[name]
        assert f"{training.arm}-R{training.loops}-s{training.seed}" == name
        assert training.bits_per_byte == summary["bits_per_byte"]
        assert (training.tokens, training.stage) == (512, "run")
        assert training.source.model is not None
        assert training.source.model.arm == (None if training.arm == "plt" else training.arm)
        assert training.source.model.parameters == training.parameters
        assert training.start_bits_per_byte is None
        assert training.settings.keys() == {"optim.peak_lr"}


def test_answers_are_counted_for_every_task_mode_and_hop(finished: StudyResult) -> None:
    found = read_records(finished.out / "records" / "plt-R2-s1" / "study.jsonl")
    answers = [row for row in found if isinstance(row, DepthRow)]
    assert [(row.task, row.mode) for row in answers] == [
        ("brackets", m) for m in ("direct", "steps")
    ]
    for row in answers:
        assert (row.hops, row.trained_hops, row.loops, row.seed) == ([1, 2, 3], 2, 2, 1)
        assert all(set(right) <= {"0", "1"} and 0 < len(right) <= 5 for right in row.right)


def test_an_elastic_model_is_measured_at_each_count(finished: StudyResult) -> None:
    found = read_records(finished.out / "records" / "elastic-R2-s0" / "study.jsonl")
    training = next(row for row in found if isinstance(row, TrainingRow))
    assert training.by_loops.keys() == {1, 2}
    assert training.by_loops[2] == training.bits_per_byte
    assert {row.loops for row in found if isinstance(row, DepthRow)} == {1, 2}


def test_trials_are_recorded_and_the_best_is_taken(finished: StudyResult) -> None:
    tried = rows(finished.out / "records" / "trials.jsonl")
    assert len(tried) == 4
    for loops in (1, 2):
        own = [row for row in tried if row["loops"] == loops]
        best = min(own, key=lambda row: row["loss"])["settings"]
        assert finished.chosen[f"plt-R{loops}"] == best
        recipe = finished.summaries[f"plt-R{loops}-s0"]["recipe"]
        assert recipe["optim"]["peak_lr"] == best["optim.peak_lr"]
    assert read_json(finished.out / "settings.json") == finished.chosen


def test_advice_can_be_asked_for_again(finished: StudyResult) -> None:
    evidence = read_evidence([finished.out / "records"], say=lambda line: None)
    assert len(evidence.runs) == len(NAMES) + 1


def copied(finished: StudyResult, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished.out, tmp_path / "tiny"))


def files(out: Path) -> dict[str, tuple[int, float]]:
    kept = (out / "runs", out / "trials", out / "records")
    paths = [path for folder in kept for path in folder.rglob("*") if path.is_file()]
    return {str(p): (p.stat().st_ino, p.stat().st_mtime) for p in paths if p.name != "trials.jsonl"}


def test_what_is_done_is_left_as_it_is(finished: StudyResult, tmp_path: Path) -> None:
    out = copied(finished, tmp_path)
    before = files(out)
    again = run(tiny(arms=ARMS, tune=TUNE), out)
    assert files(out) == before
    assert again.summaries.keys() == finished.summaries.keys()
    assert again.budget.left_s == 0


def test_another_question_is_asked_of_the_models_that_are_there(
    finished: StudyResult, tmp_path: Path
) -> None:
    out = copied(finished, tmp_path)
    trained = {p: v for p, v in files(out).items() if "/runs/" in p}
    run(tiny("evaluate.hops=[2]", arms=ARMS[:1], tune=TUNE), out)
    assert {p: v for p, v in files(out).items() if "/runs/" in p} == trained
    asked = rows(out / "records" / "plt-R2-s0" / "study.jsonl")
    assert [row["hops"] for row in asked if row["kind"] == "depth"] == [[2], [2]]


def test_a_model_more_is_trained_beside_those_that_are_there(
    finished: StudyResult, tmp_path: Path
) -> None:
    out = copied(finished, tmp_path)
    more = run(tiny("study.seeds=[0, 1, 2]", "study.loops=[1]", arms=ARMS[:1], tune=TUNE), out)
    assert set(more.summaries) == {"plt-R1-s0", "plt-R1-s1", "plt-R1-s2"}
    weights = [
        load_file(out / "runs" / name / "final" / "model.safetensors") for name in NAMES[1:3]
    ]
    assert any((weights[0][name] != weights[1][name]).any() for name in weights[0])


@pytest.mark.parametrize(
    ("assignment", "problem", "kind"),
    [
        (
            "train.run.steps=5",
            r"plt-R1-s0: was trained with run\.steps 4, the study says 5",
            TrainingError,
        ),
        ("depth.tokens=5000", r"data: was made from .*4000.*the recipe says .*5000", DataError),
    ],
)
def test_other_settings_do_not_mix(
    finished: StudyResult, tmp_path: Path, assignment: str, problem: str, kind: type[Exception]
) -> None:
    out = copied(finished, tmp_path)
    with pytest.raises(kind, match=problem):
        run(tiny(assignment, arms=ARMS[:1], tune=TUNE), out)


def test_one_study_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    with (tmp_path / "tiny" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TrainingError, match="another study runs there"):
            run(tiny(), tmp_path / "tiny")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(TrainingError, match="Permission denied; choose a directory"):
        run(tiny(), tmp_path / "tiny")


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "tiny").write_text("")
    with pytest.raises(TrainingError, match=r"tiny: .*choose a directory"):
        run(tiny(), tmp_path / "tiny")


def test_a_budget_trains_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    from loopcoder.study.run import run_study

    result = run_study(
        tiny(), tmp_path, tmp_path / "tiny", processes=2, say=said.append, dry_run=True
    )
    assert not result.finished
    assert not (tmp_path / "tiny" / "runs").exists()
    assert [(line.loops, line.models, line.tokens) for line in result.budget.lines] == [
        (1, 2, 1024),
        (2, 2, 1024),
    ]
    assert "in all 0.00 M tokens" in said[-1]
    assert "with 2 at a time" in said[-1]


def test_a_model_that_diverges_does_not_stop_the_others(tmp_path: Path) -> None:
    arms: list[dict[str, Any]] = [
        {"name": "plt", "seeds": [0], "loops": [1]},
        {"name": "wild", "seeds": [0], "loops": [1], "set": {"optim.peak_lr": 1e30}},
    ]
    with pytest.raises(TrainingError, match=r"wild-R1-s0 failed: step .* the loss is"):
        run(tiny(arms=arms), tmp_path / "tiny")
    assert (tmp_path / "tiny" / "records" / "plt-R1-s0" / "study.jsonl").is_file()
