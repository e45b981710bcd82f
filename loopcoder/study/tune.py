"""From trials to settings: the least held-out loss at each loop count wins."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loopcoder.errors import TrainingError
from loopcoder.records.files import record_file
from loopcoder.study.matrix import Chosen, Trial
from loopcoder.study.recipe import Fields
from loopcoder.study.records import source_of, training_row
from loopcoder.study.work import Job

TRIALS = "trials.jsonl"


def choose(trials: Sequence[Trial], summaries: Mapping[str, Mapping[str, Any]]) -> Chosen:
    """The settings of the best trial for each arm and loop count.

    A trial without a summary failed (its loss was no number) and is not chosen. Raises
    `TrainingError` where none is left.
    """
    best: dict[tuple[str, int], tuple[float, Fields]] = {}
    for trial in trials:
        place = (trial.arm.name, trial.loops)
        summary = summaries.get(trial.name)
        if summary is None:
            continue
        loss = float(summary["heldout"]["loss"])
        if place not in best or loss < best[place][0]:
            best[place] = (loss, trial.settings)
    lost = {(trial.arm.name, trial.loops) for trial in trials} - best.keys()
    if lost:
        arm, loops = min(lost)
        raise TrainingError(
            f"{arm}, {loops} loops: every trial failed; lower the rates in tune.grid"
        )
    return {place: settings for place, (_, settings) in best.items()}


def write_trials(
    records: Path, jobs: Sequence[Job], summaries: Mapping[str, Mapping[str, Any]]
) -> None:
    """`trials.jsonl`: a row for each trial that ended."""
    done = [job for job in jobs if job.cell.name in summaries]
    if not done:
        return
    with record_file(records / TRIALS) as file:
        for job in done:
            summary = summaries[job.cell.name]
            file.write(training_row(job, summary, source_of(job, summary, None)))
