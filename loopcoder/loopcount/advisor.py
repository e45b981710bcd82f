"""`advise`: from evidence to a recommendation with its reasons."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loopcoder.loopcount.advice import (
    Advice,
    Confidence,
    Cost,
    Finding,
    LossTable,
    Question,
    Verdict,
)
from loopcoder.loopcount.checks import check_comparable
from loopcoder.loopcount.costs import collect_costs
from loopcoder.loopcount.decide import (
    Choice,
    Limits,
    choose,
    count,
    judge,
    least_gain,
    spell,
    within,
)
from loopcoder.loopcount.diagnostics import (
    Diagnostics,
    diagnose,
    diagnosed_loops,
    read_diagnostics,
)
from loopcoder.loopcount.intervals import MIN_UNITS, RESAMPLES
from loopcoder.loopcount.losses import exit_sweep, trained_sweep
from loopcoder.loopcount.outlook import caveats_of, what_would_change
from loopcoder.loopcount.runs import Evidence, Run
from loopcoder.loopcount.scissors import loop_rows
from loopcoder.loopcount.scores import score_sweeps
from loopcoder.loopcount.sweep import Sweep

TRAIN: Question = "train and run"
RUN: Question = "run this checkpoint"


@dataclass(frozen=True)
class _Direct:
    """Losses and scores: those that decide, those of too few documents or tasks, and others.

    `curves` are checkpoints stopped early, beside models that were trained at several counts.
    """

    question: Question
    deciding: tuple[Sweep, ...] = ()
    few: tuple[Sweep, ...] = ()
    curves: tuple[Sweep, ...] = ()


def advise(
    evidence: Evidence, limits: Limits | None = None, *, resamples: int = RESAMPLES
) -> Advice:
    """How many loops (SPEC.md section 6; the decision table is in docs/advice.md).

    What was measured decides; published runs decide where nothing was. Raises `RecordError` for
    runs that cannot be compared and `RequestError` for limits whose cost nobody measured.
    """
    limits = limits or Limits()
    check_comparable(evidence)
    costs = collect_costs(evidence)
    runs = evidence.measured or evidence.published
    direct = _direct(runs, resamples)
    found = diagnose(runs, resamples)
    diagnosed = read_diagnostics(found) if found else []
    choices, dropped = [], []
    for sweep in direct.deciding:
        kept, left_out = within(sweep.loops, costs, limits)
        choices.append(_choice(sweep, kept, limits))
        dropped += [line for line in left_out if line not in dropped]
    if choices:
        final = _agreed(choices)
    else:
        final, dropped = _by_diagnostics(found, diagnosed, costs, limits)
    return _advice(evidence, limits, direct, found, diagnosed, costs, final, dropped)


def _direct(runs: Sequence[Run], resamples: int) -> _Direct:
    counts = {run.model.trained_loops for run in runs if run.model}
    trained = trained_sweep(runs, resamples)
    scored = score_sweeps(runs, resamples, trained=True)
    sweeps = [*([trained] if trained else []), *scored]
    exits = [
        exit_sweep([r for r in runs if r.model and r.model.trained_loops == loops], resamples)
        for loops in sorted(counts)
    ]
    curves = [sweep for sweep in exits if sweep]
    if sweeps or len(counts) != 1:
        return _Direct(TRAIN, *_split(sweeps), tuple(curves))
    sweeps = [*curves, *score_sweeps(runs, resamples, trained=False)]
    return _Direct(RUN, *_split(sweeps)) if sweeps else _Direct(TRAIN)


def _split(sweeps: Sequence[Sweep]) -> tuple[tuple[Sweep, ...], tuple[Sweep, ...]]:
    """Sweeps of enough documents or tasks decide; if none has, all are asked, and none can tell."""
    enough = tuple(sweep for sweep in sweeps if sweep.units >= MIN_UNITS)
    few = tuple(sweep for sweep in sweeps if sweep.units < MIN_UNITS)
    return (enough, few) if enough else (few, ())


def _choice(sweep: Sweep, kept: Sequence[int], limits: Limits) -> Choice:
    if not kept:
        return _none("no loop count that was measured is within the limits")
    if len(kept) == 1:
        return Choice(
            loops=kept[0],
            confidence="likely",
            basis=f"the limits leave {count(kept[0])} alone",
            open=(),
            lowest_share=1.0,
        )
    return choose(sweep, kept, least_gain(sweep, limits))


def _none(basis: str) -> Choice:
    return Choice(loops=None, confidence="cannot tell", basis=basis, open=(), lowest_share=None)


_RANKS: tuple[Confidence, ...] = ("cannot tell", "weak", "likely", "sure")


def _agreed(choices: Sequence[Choice]) -> Choice:
    """One choice of several sweeps; those that cannot tell do not vote."""
    telling = [choice for choice in choices if choice.loops is not None]
    if not telling:
        return choices[0]
    if len({choice.loops for choice in telling}) > 1:
        return _none("they disagree: " + "; ".join(choice.basis for choice in telling))
    return max(telling, key=lambda choice: _RANKS.index(choice.confidence))


def _by_diagnostics(
    found: Diagnostics | None, findings: Sequence[Finding], costs: Sequence[Cost], limits: Limits
) -> tuple[Choice, list[str]]:
    loops = diagnosed_loops(findings)
    if found is None or loops is None:
        return _none("nothing that compares two loop counts was measured"), []
    kept, dropped = within(range(1, loops + 1), costs, limits)
    choice = Choice(
        loops=max(kept),
        confidence="weak",
        basis=f"diagnostics alone ({found.basis}) of one model with {count(found.loops)}; no loss "
        "or score of another loop count",
        open=(),
        lowest_share=None,
    )
    return choice, dropped


def _advice(
    evidence: Evidence,
    limits: Limits,
    direct: _Direct,
    found: Diagnostics | None,
    diagnosed: Sequence[Finding],
    costs: tuple[Cost, ...],
    final: Choice,
    dropped: Sequence[str],
) -> Advice:
    tables = tuple(_table(sweep, limits, decides=True) for sweep in direct.deciding)
    others = (*direct.few, *direct.curves)
    tables += tuple(_table(sweep, limits, decides=False) for sweep in others)
    asked = (*direct.deciding, *direct.few)
    pairs = [f for sweep in asked for f in _beside(sweep, final.loops, limits)]
    reasons, against = _for_and_against(pairs, diagnosed, final.loops)
    return Advice(
        question=direct.question,
        recommended_loops=final.loops,
        confidence=final.confidence,
        basis=final.basis,
        lowest_share=final.lowest_share,
        compared=tuple(sorted({r for sweep in direct.deciding for r in sweep.loops})),
        diagnosed=diagnosed_loops(diagnosed),
        reasons=reasons,
        against=against,
        findings=(*pairs, *diagnosed),
        costs=costs,
        would_change=(
            *dropped,
            *what_would_change(direct.question, direct.deciding, final, costs, limits),
        ),
        caveats=tuple(dict.fromkeys(caveats_of(evidence, direct.question, direct.deciding, found))),
        tables=tables,
        per_loop=loop_rows(direct.deciding, found, costs),
        sources=tuple(run.name for run in (*evidence.measured, *evidence.published))
        + tuple(bench.name for bench in evidence.benches),
    )


def _table(sweep: Sweep, limits: Limits, *, decides: bool) -> LossTable:
    steps = zip(sweep.loops, sweep.loops[1:], strict=False)
    return LossTable(
        name=sweep.name,
        unit=sweep.unit,
        of=sweep.of,
        source=sweep.source,
        basis=sweep.basis,
        decides=decides,
        levels=sweep.levels,
        gains=tuple(_gain(sweep, fewer, more, limits) for fewer, more in steps),
    )


def _beside(sweep: Sweep, recommended: int | None, limits: Limits) -> Iterator[Finding]:
    """Each count beside the recommended one; without one, beside the count before."""
    if recommended not in sweep.loops or recommended is None:
        for fewer, more in zip(sweep.loops, sweep.loops[1:], strict=False):
            yield _gain(sweep, fewer, more, limits)
        return
    for other in sweep.loops:
        if other != recommended:
            yield _gain(sweep, min(other, recommended), max(other, recommended), limits)


def _gain(sweep: Sweep, fewer: int, more: int, limits: Limits) -> Finding:
    gain = sweep.gain(fewer, more)
    levels = {level.loops: level for level in sweep.levels}
    verdict: Verdict = judge(sweep, fewer, more, least_gain(sweep, limits))
    word = "better" if gain.value > 0 else "worse"
    call = "" if gain.called else " (not for certain)"
    if verdict == "against" and gain.high99 is not None and gain.high99 > 0:
        call = " (any gain is too small to count)"
    return Finding(
        about=sweep.name,
        fewer=fewer,
        more=more,
        value=gain.value,
        unit=sweep.unit,
        low=gain.low,
        high=gain.high,
        low99=gain.low99,
        high99=gain.high99,
        verdict=verdict,
        basis=sweep.basis,
        source=sweep.source,
        sentence=f"{count(more)} have {word} {sweep.name} than {fewer}{call}: "
        f"{levels[more].value:.5g} against {levels[fewer].value:.5g} {sweep.unit}, "
        f"gain {spell(gain)}, {sweep.counted}",
    )


def _for_and_against(
    pairs: Sequence[Finding], diagnosed: Sequence[Finding], loops: int | None
) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """Findings that speak for the recommended count, and those that speak for another.

    Losses and scores (`pairs`) that point to another count are listed even where not certain.
    """
    if loops is None:
        return (), ()
    reasons, against = [], []
    for finding in (*pairs, *diagnosed):
        leaning = finding.verdict
        if leaning == "undecided" and finding in pairs:
            leaning = "for" if finding.value > 0 else "against"
        speaks_for = leaning == ("for" if finding.more <= loops else "against")
        if finding.verdict != "undecided" and speaks_for:
            reasons.append(finding)
        elif leaning != "undecided" and not speaks_for:
            against.append(finding)
    return tuple(reasons), tuple(against)
