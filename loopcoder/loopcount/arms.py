"""A study's other arms beside its main one: an ablation, with intervals."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

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
AS_DEAR = 1.15  # compute that differs by less than this factor is called the same


@dataclass(frozen=True, kw_only=True)
class ArmDifference:
    """`arm` at `loops` minus the main arm at `main_loops`, in one measure.

    `measure` is `BITS` or a mode of the depth tasks, in points; `counted` is what the interval is
    over: documents or questions (and seeds, where there are several), seeds alone, or nothing.
    `flops` is the arm's training compute over the main arm's, of an elastic model all of it.
    """

    arm: str
    loops: int
    main_loops: int
    measure: str
    level: float
    main_level: float
    models: int
    main_models: int
    difference: Estimate
    counted: str
    flops: float | None


@dataclass(frozen=True)
class _Side:
    """Models that differ by their seeds, run at one loop count."""

    models: Sequence[StudyModel]
    loops: int

    def answers(self, mode: str) -> list[Answers]:
        asked = (
            [row for row in model.depth if (row.mode, row.loops) == (mode, self.loops)]
            for model in self.models
        )
        return [trained_answers(rows) for rows in asked if rows]

    def bits(self) -> Array:
        found = [model.bits_at(self.loops) for model in self.models]
        return np.array([value for value in found if value is not None], dtype=np.float64)

    def flops_over(self, main: "_Side") -> float | None:
        own, theirs = (
            [model.training.flops for model in side.models if model.training]
            for side in (self, main)
        )
        return fmean(own) / fmean(theirs) if own and theirs and any(theirs) else None


def arm_differences(study: Study, resamples: int = RESAMPLES) -> list[ArmDifference]:
    """Every arm beside the main arm at as many loops, and at as much compute where that differs."""
    drawn: dict[int, Resamples] = {}

    def draw(units: int) -> Resamples:
        return drawn.setdefault(units, Resamples(units, resamples))

    sides = [_Side(group, group[0].loops) for group in study.main_groups]
    return [each for main in sides for each in _beside(main, _others(study, main), draw)]


def _others(study: Study, main: _Side) -> list[_Side]:
    groups = [group for group in study.groups if not group[0].main]
    equal = [_Side(group, main.loops) for group in groups if main.loops in group[0].counts]
    elsewhere = [
        side
        for group in groups
        if len(group[0].counts) == 1 and main.loops not in group[0].counts
        for side in [_Side(group, group[0].loops)]
        if 1 / AS_DEAR < (side.flops_over(main) or 0.0) < AS_DEAR
    ]
    return [*equal, *elsewhere]


def _beside(
    main: _Side, others: Sequence[_Side], draw: Callable[[int], Resamples]
) -> Iterator[ArmDifference]:
    if not others:
        return
    paired = _paired([main, *others], draw)
    if paired is not None:
        yield from _of_sweep(paired, BITS, [main, *others])
    else:
        yield from _of_seeds(main, others)
    for mode in sorted({row.mode for model in main.models for row in model.depth}):
        sides = [main, *(side for side in others if side.answers(mode))]
        answers = [side.answers(mode) for side in sides]
        sweep = question_sweep(answers, mode, draw) if answers[0] else None
        if sweep is not None and len(sides) > 1:
            yield from _of_sweep(sweep, mode, sides)


def _paired(sides: Sequence[_Side], draw: Callable[[int], Resamples]) -> Sweep | None:
    """Paired over documents; None where samples are missing or of other texts."""
    probes = [[(model.probe, side.loops) for model in side.models if model.probe] for side in sides]
    if [len(found) for found in probes] != [len(side.models) for side in sides]:
        return None
    flat = [pair for found in probes for pair in found]
    texts = {(probe.data.hash, probe.data.length) for probe, _ in flat if probe.data}
    if len(texts) > 1 or any(probe.loops < loops for probe, loops in flat):
        return None
    try:
        return samples_sweep(probes, draw)
    except RecordError:  # no sample in common: what the trainer measured is left
        return None


def _of_sweep(sweep: Sweep, measure: str, sides: Sequence[_Side]) -> Iterator[ArmDifference]:
    levels = {level.loops: level for level in sweep.levels}
    seeds = " and seeds" if sweep.counts_seeds else ""
    for number, side in enumerate(sides[1:], 1):
        yield ArmDifference(
            arm=side.models[0].arm,
            loops=side.loops,
            main_loops=sides[0].loops,
            measure=measure,
            level=levels[number].value,
            main_level=levels[0].value,
            models=levels[number].models,
            main_models=levels[0].models,
            difference=sweep.gain(0, number),
            counted=f"{sweep.counted}{seeds}",
            flops=side.flops_over(sides[0]),
        )


def _of_seeds(main: _Side, others: Sequence[_Side]) -> Iterator[ArmDifference]:
    """From the trainer's own measurements, whose only spread is that of seeds."""
    first, values = main.bits(), [side.bits() for side in others]
    variance = pooled_variance([first, *values])
    for side, own in zip(others, values, strict=True):
        if not len(own) or not len(first):
            continue
        change = float(own.mean() - first.mean())
        luck = variance.of_mean(len(own), len(first)) if variance else None
        yield ArmDifference(
            arm=side.models[0].arm,
            loops=side.loops,
            main_loops=main.loops,
            measure=BITS,
            level=float(own.mean()),
            main_level=float(first.mean()),
            models=len(own),
            main_models=len(first),
            difference=seeds_estimate(change, luck) if luck else Estimate(value=change, units=0),
            counted="seeds" if luck else "",
            flops=side.flops_over(main),
        )
