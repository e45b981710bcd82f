"""The settings that a study tried, and which of them it trained with."""

from collections.abc import Sequence

from loopcoder.loopcount import Study
from loopcoder.records.rows import TrainingRow
from loopcoder.report.numbers import count, duration, number, visible
from loopcoder.report.parts import Section, Table
from loopcoder.report.sections.common import NOTHING, of_study, setting, without_empty


def tuning(found: Sequence[Study]) -> Section | None:
    """Every trial; None where nothing was tried."""
    having = [study for study in found if study.trials]
    if not having:
        return None
    trials = sum(len(study.trials) for study in having)
    return Section(
        name="tuning",
        title="Tuning",
        lead=f"{count(trials)} trial{'' if trials == 1 else 's'} of fewer steps, by held-out loss: "
        "each arm and loop count has settings of its own, so that none is judged by another's.",
        tables=[_table(study, several=len(found) > 1) for study in having],
    )


def _table(study: Study, *, several: bool) -> Table:
    names = list(dict.fromkeys(key for trial in study.trials for key in trial.settings))
    trials = sorted(study.trials, key=lambda row: (row.arm, row.loops, row.bits_per_byte))
    table = Table(
        columns=(
            "arm",
            "loops",
            *(visible(name) for name in names),
            "steps",
            "bits per byte",
            "loss, nats per token",
            "time",
            "chosen",
        ),
        rows=[
            (
                visible(trial.arm),
                str(trial.loops),
                *(setting(trial.settings[n]) if n in trial.settings else NOTHING for n in names),
                count(trial.steps),
                number(trial.bits_per_byte, 4),
                number(trial.loss, 4),
                duration(trial.seconds),
                "chosen" if _was_chosen(study, trial) else NOTHING,
            )
            for trial in trials
        ],
        caption=of_study("Trials, the best of each loop count first", study, several=several),
        words=frozenset({0, len(names) + 6}),
    )
    return without_empty(table)


def _was_chosen(study: Study, trial: TrainingRow) -> bool:
    """Whether a model of that arm and loop count was trained to the end with these settings."""
    runs = [model.training for model in study.models if model.training]
    return any(
        (run.arm, run.loops) == (trial.arm, trial.loops)
        and bool(trial.settings)
        and trial.settings.items() <= run.settings.items()
        for run in runs
    )
