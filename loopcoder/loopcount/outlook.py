"""What would change an advice, and what it does not cover."""

import math
from collections.abc import Iterator, Sequence

from loopcoder.loopcount.advice import Cost, Question
from loopcoder.loopcount.costs import DECODE, cost_ratio
from loopcoder.loopcount.decide import (
    ENOUGH_UNITS,
    Choice,
    Limits,
    count,
    judge,
    least_gain,
)
from loopcoder.loopcount.diagnostics import Diagnostics
from loopcoder.loopcount.intervals import MIN_UNITS, Estimate
from loopcoder.loopcount.losses import unshared_samples
from loopcoder.loopcount.runs import Evidence
from loopcoder.loopcount.sweep import Sweep

_FAR = 1000  # times as many documents as there are: not worth naming a number

OFFSET_CAVEAT = (
    "offset cost over output shift is a length over nats: it orders the loops of one model and "
    "compares no two models"
)


def what_would_change(
    question: Question,
    sweeps: Sequence[Sweep],
    choice: Choice,
    costs: Sequence[Cost],
    limits: Limits,
) -> Iterator[str]:
    """Measurements and limits that could turn the advice, with their numbers."""
    for sweep in sweeps:
        yield from _undecided(sweep, least_gain(sweep, limits), choice)
    if question == "train and run":
        yield from _not_compared(sweeps, choice)
    yield from _limit(sweeps, choice, costs)


def _undecided(sweep: Sweep, margin: float, choice: Choice) -> Iterator[str]:
    counts = sweep.loops
    for fewer in counts:
        for more in counts:
            near = choice.loops is None or choice.loops in (fewer, more)
            if fewer < more and near and judge(sweep, fewer, more, margin) == "undecided":
                yield _more_data(sweep, fewer, more, margin)


def _more_data(sweep: Sweep, fewer: int, more: int, margin: float) -> str:
    """How much more of the same would decide: errors shrink with the root of the number."""
    gain = sweep.gain(fewer, more)
    pair = f"{sweep.name} of {count(more)} against {fewer}"
    if gain.low99 is None or gain.high99 is None or sweep.units < MIN_UNITS:
        return f"{pair}: at least {MIN_UNITS} {sweep.of} instead of {sweep.units}"
    half = (gain.high99 - gain.low99) / 2
    if _mostly_seeds(gain):
        return f"{pair}: more seeds; models of one recipe differ more than the ±{half:.2g} allows"
    needed = units_to_decide(gain, margin)
    if needed is None:
        return (
            f"{pair}: the difference is within ±{half:.2g} {sweep.unit} and too close to "
            f"{margin:g} for any number of {sweep.of} within reach"
        )
    return (
        f"{pair}: a difference of {gain.value:+.2g} is smaller than its 99 % interval of "
        f"±{half:.2g} {sweep.unit}; about {needed} {sweep.of} instead of {sweep.units} would decide"
    )


def _mostly_seeds(gain: Estimate) -> bool:
    return gain.seed_error is not None and gain.error is not None and gain.seed_error > gain.error


def units_to_decide(gain: Estimate, margin: float) -> int | None:
    """Units with which an interval around the same value would clear zero and the margin."""
    assert gain.low99 is not None
    assert gain.high99 is not None
    half = gain.value - gain.low99 if gain.value > 0 else gain.high99 - gain.value
    distance = abs(gain.value) if gain.value >= margin else abs(gain.value - margin)
    if distance == 0 or (half / distance) ** 2 > _FAR:
        return None
    return max(gain.units + 1, math.ceil(gain.units * (half / distance) ** 2))


def _not_compared(sweeps: Sequence[Sweep], choice: Choice) -> Iterator[str]:
    counts = sorted({loops for sweep in sweeps for loops in sweep.loops})
    if not counts:
        yield "held-out loss or scores of models trained at two loop counts or more"
        return
    missing = [loops for loops in range(1, counts[-1]) if loops not in counts]
    for loops in missing:
        yield f"no model with {count(loops)} was measured"
    if choice.loops in (None, counts[-1]):
        more = count(counts[-1] + 1)
        yield f"no model with {more} was measured: {counts[-1]} is the most that was compared"


def _limit(sweeps: Sequence[Sweep], choice: Choice, costs: Sequence[Cost]) -> Iterator[str]:
    if choice.loops is None or choice.loops == 1:
        return
    latency = cost_ratio(costs, DECODE, choice.loops)
    fewer = [loops for sweep in sweeps for loops in sweep.loops if loops < choice.loops]
    if latency is None:
        yield f"a measured latency: nothing given says what {count(choice.loops)} cost in time"
    elif fewer or not sweeps:
        yield (
            f"a limit on decode latency below x {latency.ratio:.3g} of one loop "
            f"({latency.basis}: {latency.conditions})"
        )


def caveats_of(
    evidence: Evidence, question: Question, sweeps: Sequence[Sweep], found: Diagnostics | None
) -> Iterator[str]:
    """What the numbers do not say."""
    for sweep in sweeps:
        yield from _of_sweep(sweep)
    if question == "run this checkpoint":
        trained = {run.model.trained_loops for run in evidence.measured if run.model}
        counts = ", ".join(map(str, sorted(trained)))
        yield (
            f"this says at how many loops to run a checkpoint trained at {counts}, not how "
            "many to train: what it gives after another loop was never trained to predict"
        )
    for run in evidence.measured:
        if run.model and run.loops > run.model.trained_loops:
            own = run.model.trained_loops
            yield f"{run.name}: loops after {own} were run, and the model was not trained to"
    left = unshared_samples(evidence.measured)
    if left:
        yield f"{left} samples are not in every run and were left out"
    yield from _left_out(evidence)
    if found is not None and found.mean("offset_cost", 2) is not None:
        yield OFFSET_CAVEAT
    if evidence.measured and evidence.published:
        yield "published values are of other models: they are shown as costs and do not decide"


def _left_out(evidence: Evidence) -> Iterator[str]:
    models = {run.model.hash: run.model.arm for run in evidence.other_arms if run.model}
    if models:
        arms = ", ".join(sorted({arm for arm in models.values() if arm is not None}))
        number = f"{len(models)} model" + ("" if len(models) == 1 else "s")
        yield f"{number} of other arms ({arms}) left out: they differ in more than loops"


def _of_sweep(sweep: Sweep) -> Iterator[str]:
    if sweep.paired_models and sweep.models > 1:
        yield f"{sweep.name}: the mean of {sweep.models} checkpoints"
    if MIN_UNITS <= sweep.units < ENOUGH_UNITS:
        yield (
            f"{sweep.units} {sweep.of} are few: 95 % intervals of so few hold about 91 % of the "
            f"time; {ENOUGH_UNITS} are enough"
        )
    if sweep.paired_models:
        return
    if not sweep.counts_seeds:
        yield (
            f"{sweep.name}: one model a loop count, so the luck of its seed is not in the interval"
        )
    elif min(len(total) for total in sweep.totals.values()) == 1:
        yield (
            f"{sweep.name}: some loop counts have one model; the spread between seeds is taken "
            "from the others"
        )
