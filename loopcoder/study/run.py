"""A whole study: data, budget, trials, models, records, advice and page."""

import fcntl
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopcoder.errors import RecordError, TrainingError, file_errors
from loopcoder.loopcount import Advice, advise, read_evidence
from loopcoder.report.page import write_report
from loopcoder.study.budget import Budget, as_text, estimate
from loopcoder.study.data import prepare_data, start_of
from loopcoder.study.matrix import (
    Cell,
    Chosen,
    Trial,
    cells,
    settings_of,
    training_recipe,
    trials,
)
from loopcoder.study.pool import Done, run_jobs
from loopcoder.study.recipe import StudyRecipe
from loopcoder.study.show import Board
from loopcoder.study.tune import choose, write_trials
from loopcoder.study.work import Job, summary_of
from loopcoder.train.records import write_json

RECORDS, RUNS, TRIALS = "records", "runs", "trials"
PAGE, ADVICE, SETTINGS = "report.html", "advice.json", "settings.json"


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """How a study ended: `finished` is false if a signal stopped it, or for a budget alone."""

    out: Path
    finished: bool
    budget: Budget
    summaries: dict[str, dict[str, Any]] = field(default_factory=dict)
    chosen: dict[str, dict[str, Any]] = field(default_factory=dict)  # by "ARM-R2"
    advice: Advice | None = None
    why_not: str = ""  # no advice


def run_study(
    study: StudyRecipe,
    beside: Path,
    out: Path,
    *,
    processes: int,
    say: Callable[[str], None],
    dry_run: bool = False,
) -> StudyResult:
    """Train, measure and compare what `study` says, in `out`; what is done there is left out.

    `beside` is the folder that paths in the recipe are relative to. A dry run ends with the
    budget. Raises `ConfigError`, `DataError` or `TrainingError`; models that were trained stay.
    """
    with _own(out):
        data = prepare_data(study, beside, out)
        study_jobs = _Jobs(study, beside, out, data)
        tried = study_jobs.trials()
        # What the trials will choose is not known yet; it changes what a model costs by little.
        budget = estimate([*tried, *study_jobs.models({})])
        for line in as_text(study.name, budget, processes):
            say(line)
        if dry_run:
            return StudyResult(out=out, finished=False, budget=budget)
        board = Board(budget.seconds)
        trial_end = _do(study, tried, processes, board)
        if trial_end.stopped:
            return StudyResult(out=out, finished=False, budget=budget)
        write_trials(out / RECORDS, tried, trial_end.summaries)
        chosen = choose(trials(study), trial_end.summaries) if tried else {}
        names = {f"{arm}-R{loops}": dict(values) for (arm, loops), values in chosen.items()}
        write_json(out / SETTINGS, names)
        end = _do(study, study_jobs.models(chosen), processes, board)
        if end.stopped:
            return StudyResult(out=out, finished=False, budget=budget, chosen=names)
        _raise_first(end)
        advice, why_not = _conclude(out, say)
        return StudyResult(
            out=out,
            finished=True,
            budget=budget,
            summaries=end.summaries,
            chosen=names,
            advice=advice,
            why_not=why_not,
        )


@dataclass(frozen=True)
class _Jobs:
    """The jobs of a study; making them converts what base models they begin with."""

    study: StudyRecipe
    beside: Path
    out: Path
    data: Path

    def trials(self) -> list[Job]:
        """Every setting to try."""
        tune = self.study.tune
        return [
            self._job(trial, trial.settings, {}, self.out / TRIALS, steps=tune.steps)
            for trial in trials(self.study)
            if tune is not None
        ]

    def models(self, chosen: Chosen) -> list[Job]:
        """Every model, with what was chosen for it."""
        return [
            self._job(cell, settings_of(self.study, cell, chosen), chosen, self.out / RUNS)
            for cell in cells(self.study)
        ]

    def _job(
        self,
        cell: Cell,
        settings: dict[str, Any],
        chosen: Chosen,
        folder: Path,
        *,
        steps: int | None = None,
    ) -> Job:
        study, arm = self.study, cell.arm
        if isinstance(cell, Trial):
            chosen = {(arm.name, cell.loops): settings}
        start = start_of(study, self.beside, self.out, cell, chosen)
        recipe = training_recipe(
            study, cell, settings, start_from=None if start is None else str(start), steps=steps
        )
        return Job(
            study=study.name,
            cell=cell,
            recipe=recipe,
            settings=settings,
            data=self.data,
            out=folder / cell.name,
            records=None if isinstance(cell, Trial) else self.out / RECORDS / cell.name,
            main=arm.name == study.arms[0].name,
            first=cell.seed == study.seeds_of(arm)[0],
        )


def _do(study: StudyRecipe, jobs: Sequence[Job], processes: int, board: Board) -> Done:
    for job in jobs:
        summary_of(job)  # one that another recipe made is found before hours are spent on others
    return run_jobs(jobs, study.evaluate, study.depth, processes=processes, board=board)


def _raise_first(done: Done) -> None:
    for name, error in done.failed.items():
        more = f" (and {len(done.failed) - 1} more failed)" if len(done.failed) > 1 else ""
        raise TrainingError(f"{name} failed{more}: {error}") from error


def _conclude(out: Path, say: Callable[[str], None]) -> tuple[Advice | None, str]:
    """Write the advice and the page; no advice, and why, where the records do not allow one."""
    evidence = read_evidence([out / RECORDS], with_published=True, say=say)
    advice, why_not = None, ""
    try:
        advice = advise(evidence)
        write_json(out / ADVICE, advice.to_dict())
    except RecordError as error:
        why_not = str(error)
    write_report(out / RECORDS, out / PAGE, evidence)
    return advice, why_not


@contextmanager
def _own(out: Path) -> Iterator[None]:
    """Keep `out` to this process. Raises `TrainingError` if another study runs in it."""
    with file_errors(TrainingError, "choose a directory that can be written, with --out"):
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("w", encoding="utf-8")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainingError(
                f"{out}: another study runs there; wait for it, or give another --out"
            ) from error
        yield


def as_json_text(result: StudyResult) -> str:
    """The result as a JSON object."""
    return json.dumps(
        {
            "out": str(result.out),
            "finished": result.finished,
            "budget": [vars(line) for line in result.budget.lines],
            "chosen": result.chosen,
            "models": {
                name: {key: summary[key] for key in ("bits_per_byte", "tokens", "wall_s")}
                for name, summary in result.summaries.items()
            },
            "advice": None if result.advice is None else result.advice.to_dict(),
            "why_no_advice": result.why_not,
        },
        indent=2,
    )
