"""A study's other arms beside its main one, run at as many loops: an ablation, with intervals."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from loopcoder.errors import RecordError
from loopcoder.loopcount.depth import Answers, question_sweep, trained_answers
from loopcoder.loopcount.intervals import (
    RESAMPLES,
    Array,
    Estimate,
    Resamples,
    pooled_variance,
    seeds_estimate,
)
from loopcoder.loopcount.losses import samples_sweep
from loopcoder.loopcount.study import Study, StudyModel
from loopcoder.loopcount.sweep import Sweep

BITS = "bits per byte"
_Groups = Sequence[Sequence[StudyModel]]


@dataclass(frozen=True, kw_only=True)
class ArmDifference:
    """`arm` minus the main arm in one measure, of models that run `loops` loops.

    `measure` is `BITS` or a mode of the depth tasks, in points; `counted` is what the interval is
    over: documents or questions (and seeds, where there are several), seeds alone, or nothing.
    """

    arm: str
    loops: int
    measure: str
    level: float
    main_level: float
    models: int
    main_models: int
    difference: Estimate
    counted: str


def arm_differences(study: Study, resamples: int = RESAMPLES) -> list[ArmDifference]:
    """Every arm at every loop count that the main arm has too."""
    drawn: dict[int, Resamples] = {}

    def draw(units: int) -> Resamples:
        return drawn.setdefault(units, Resamples(units, resamples))

    return [
        difference
        for group in study.main_groups
        for difference in _at(study, group, group[0].loops, draw)
    ]


def _at(
    study: Study, main: Sequence[StudyModel], loops: int, draw: Callable[[int], Resamples]
) -> Iterator[ArmDifference]:
    others = [g for g in study.groups if not g[0].main and loops in g[0].counts]
    if not others:
        return
    paired = _paired([main, *others], loops, draw)
    if paired is not None:
        yield from _of_sweep(paired, BITS, loops, [main, *others])
    else:
        yield from _of_seeds(main, others, loops)
    for mode in sorted({row.mode for model in main for row in model.depth}):
        groups = [main, *(g for g in others if _answers(g, mode, loops))]
        answers = [_answers(group, mode, loops) for group in groups]
        sweep = question_sweep(answers, mode, draw) if answers[0] else None
        if sweep is not None and len(groups) > 1:
            yield from _of_sweep(sweep, mode, loops, groups)


def _paired(groups: _Groups, loops: int, draw: Callable[[int], Resamples]) -> Sweep | None:
    """Paired over documents; None where samples are missing or of other texts."""
    probes = [[model.probe for model in group] for group in groups]
    found = [[probe for probe in group if probe is not None] for group in probes]
    if found != probes:
        return None
    flat = [probe for group in found for probe in group]
    texts = {(probe.data.hash, probe.data.length) for probe in flat if probe.data}
    if len(texts) > 1 or any(probe.loops < loops for probe in flat):
        return None
    try:
        return samples_sweep(found, loops, draw)
    except RecordError:  # no sample in common: what the trainer measured is left
        return None


def _answers(group: Sequence[StudyModel], mode: str, loops: int) -> list[Answers]:
    asked = (
        [row for row in model.depth if (row.mode, row.loops) == (mode, loops)] for model in group
    )
    return [trained_answers(rows) for rows in asked if rows]


def _of_sweep(sweep: Sweep, measure: str, loops: int, groups: _Groups) -> Iterator[ArmDifference]:
    levels = {level.loops: level for level in sweep.levels}
    seeds = " and seeds" if sweep.counts_seeds else ""
    for number, group in enumerate(groups[1:], 1):
        yield ArmDifference(
            arm=group[0].arm,
            loops=loops,
            measure=measure,
            level=levels[number].value,
            main_level=levels[0].value,
            models=levels[number].models,
            main_models=levels[0].models,
            difference=sweep.gain(0, number),
            counted=f"{sweep.counted}{seeds}",
        )


def _of_seeds(main: Sequence[StudyModel], others: _Groups, loops: int) -> Iterator[ArmDifference]:
    """From the trainer's own measurements, whose only spread is that of seeds."""
    values = [_bits(group, loops) for group in (main, *others)]
    variance = pooled_variance(values)
    for group, own in zip(others, values[1:], strict=True):
        if not len(own) or not len(values[0]):
            continue
        change = float(own.mean() - values[0].mean())
        luck = variance.of_mean(len(own), len(values[0])) if variance else None
        yield ArmDifference(
            arm=group[0].arm,
            loops=loops,
            measure=BITS,
            level=float(own.mean()),
            main_level=float(values[0].mean()),
            models=len(own),
            main_models=len(values[0]),
            difference=seeds_estimate(change, luck) if luck else Estimate(value=change, units=0),
            counted="seeds" if luck else "",
        )


def _bits(group: Sequence[StudyModel], loops: int) -> Array:
    found = [model.bits_at(loops) for model in group]
    return np.array([value for value in found if value is not None], dtype=np.float64)
