"""What one model's diagnostics say of each loop: the paper's reading (SPEC.md section 6).

A loop is worth it while the effective rank still rises and the output shift has not collapsed;
loops that turn back while the offset's toll stays as high pay for nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from loopcoder.loopcount.advice import Finding, Verdict
from loopcoder.loopcount.intervals import Estimate, Resamples, ratio_estimate
from loopcoder.loopcount.runs import Run
from loopcoder.loopcount.sweep import Basis
from loopcoder.records.measures import MEASURES
from loopcoder.records.rows import MeasureRow, SampleRow

COLLAPSED = 0.5  # of loop 2's output shift; the published loops 3 and 4 keep 0.75 and 0.90
STILL = 0.01  # nats: below it, loop 2 leaves the predictions as they were
FLAT = 0.8  # of loop 2's offset cost: a toll above this has not fallen


@dataclass(frozen=True, kw_only=True, eq=False)
class Diagnostics:
    """The measures of one model that have one value a loop.

    `means[measure][loop]`; `samples` for paired differences, empty for published values.
    """

    source: str
    basis: Basis
    loops: int
    rows: tuple[MeasureRow, ...]
    samples: tuple[SampleRow, ...]
    resamples: int

    def mean(self, measure: str, loop: int) -> float | None:
        """Over documents."""
        row = self._row(measure, loop)
        return row.mean if row is not None and isinstance(row.mean, float) else None

    def _row(self, measure: str, loop: int) -> MeasureRow | None:
        wanted = (measure, loop, None)
        return next((r for r in self.rows if (r.measure, r.loop, r.layer) == wanted), None)

    @property
    def last(self) -> int:
        """The last loop that anything is known of."""
        return max((row.loop for row in self.rows), default=0)

    @cached_property
    def _documents(self) -> dict[str, list[SampleRow]]:
        found: dict[str, list[SampleRow]] = {}
        for row in self.samples:
            found.setdefault(row.document, []).append(row)
        return dict(sorted(found.items()))

    @cached_property
    def _resamples(self) -> Resamples:
        return Resamples(len(self._documents), self.resamples)

    def step(self, measure: str, loop: int) -> Estimate | None:
        """Change of a measure from the loop before, paired over documents where there are any."""
        first = MEASURES[measure].first_loop
        before, after = loop - 1 - first, loop - first
        if (
            before >= 0
            and self.samples
            and all(len(row.values.get(measure, ())) > after for row in self.samples)
        ):
            changes = np.array(
                [
                    np.mean(
                        [row.values[measure][after] - row.values[measure][before] for row in rows]
                    )
                    for rows in self._documents.values()
                ]
            )
            ones = np.ones(len(changes))
            return ratio_estimate(changes, ones, self._resamples, comparisons=self.last - 1)
        a, b = self.mean(measure, loop - 1), self.mean(measure, loop)
        return None if a is None or b is None else Estimate(value=b - a, units=0)


def diagnose(runs: Sequence[Run], resamples: int) -> Diagnostics | None:
    """The diagnostics of the model with the most loops, measured before published."""
    measured = [run for run in runs if run.model is not None and run.of(MeasureRow)]
    for run in sorted(measured, key=lambda run: run.loops, reverse=True):
        rows = run.of(MeasureRow)
        loops = max(row.loops for row in rows)
        return Diagnostics(
            source=run.name,
            basis="measured",
            loops=loops,
            rows=tuple(row for row in rows if row.loops == loops),
            samples=tuple(row for row in run.of(SampleRow) if row.loops == loops),
            resamples=resamples,
        )
    for run in runs:
        rows = run.of(MeasureRow)
        if rows:
            loops = max(row.loops for row in rows)
            own = tuple(row for row in rows if row.loops == loops)
            return Diagnostics(
                source=own[0].source.citation or run.name,
                basis="published",
                loops=loops,
                rows=own,
                samples=(),
                resamples=resamples,
            )
    return None


def read_diagnostics(found: Diagnostics) -> list[Finding]:
    """Every finding, loop by loop."""
    rules: tuple[Callable[[Diagnostics, int], Iterator[Finding]], ...] = (
        _rank,
        _shift,
        _turning,
        _truth,
        _entropy,
    )
    return [
        each for loop in range(2, found.last + 1) for rule in rules for each in rule(found, loop)
    ]


def diagnosed_loops(findings: Sequence[Finding]) -> int | None:
    """The last loop before the first that anything speaks against; None without evidence."""
    if not any(f.more == 2 and f.verdict != "undecided" for f in findings):
        return None
    loops = 1
    for loop in range(2, max(f.more for f in findings) + 1):
        verdicts = {f.verdict for f in findings if f.more == loop}
        if "against" in verdicts or "for" not in verdicts:
            break
        loops = loop
    return loops


def _finding(
    found: Diagnostics,
    about: str,
    loop: int,
    value: float,
    verdict: Verdict,
    sentence: str,
    *,
    estimate: Estimate | None = None,
    unit: str,
) -> Finding:
    return Finding(
        about=about,
        fewer=loop - 1,
        more=loop,
        value=value,
        unit=unit,
        low=estimate.low if estimate else None,
        high=estimate.high if estimate else None,
        low99=estimate.low99 if estimate else None,
        high99=estimate.high99 if estimate else None,
        verdict=verdict,
        basis=found.basis,
        source=found.source,
        sentence=sentence,
    )


def _decided(change: Estimate) -> tuple[bool, str]:
    """Whether a change counts, and how the sentence says how sure it is."""
    if change.low99 is None or change.high99 is None:
        return change.value != 0, "means alone, no interval"
    span = f"99 %: {change.low99:+.3g} to {change.high99:+.3g}, {change.units} documents"
    return change.called, span


def _step(
    found: Diagnostics, measure: str, loop: int, *, better: int, good: str, bad: str
) -> Iterator[Finding]:
    change, level = found.step(measure, loop), found.mean(measure, loop)
    if change is None or level is None:
        return
    decided, span = _decided(change)
    upward = change.value * better > 0
    verdict: Verdict = "undecided" if not decided else ("for" if upward else "against")
    title = MEASURES[measure].title.lower()
    word = "does not change for certain" if not decided else (good if upward else bad)
    yield _finding(
        found,
        title,
        loop,
        change.value,
        verdict,
        f"{title} {word} at loop {loop}: {level - change.value:.4g} to {level:.4g} ({span})",
        estimate=change,
        unit=MEASURES[measure].unit,
    )


def _rank(found: Diagnostics, loop: int) -> Iterator[Finding]:
    yield from _step(found, "effective_rank", loop, better=1, good="still rises", bad="falls")


def _truth(found: Diagnostics, loop: int) -> Iterator[Finding]:
    yield from _step(found, "truth_rank", loop, better=-1, good="gets better", bad="gets worse")


def _shift(found: Diagnostics, loop: int) -> Iterator[Finding]:
    shift, first = found.mean("output_shift", loop), found.mean("output_shift", 2)
    if shift is None or first is None:
        return
    if loop == 2:
        moves = shift >= STILL
        sentence = f"loop 2 {'moves' if moves else 'hardly moves'} the prediction: {shift:.3g} nats"
    else:
        moves = first > 0 and shift >= COLLAPSED * first
        share = f", {shift / first:.0%} of loop 2's" if first > 0 else ""
        sentence = (
            f"output shift {'has not collapsed' if moves else 'has collapsed'} at loop {loop}: "
            f"{shift:.3g} nats{share}"
        )
    verdict: Verdict = "for" if moves else "against"
    yield _finding(found, "output shift", loop, shift, verdict, sentence, unit="nats")


def _turning(found: Diagnostics, loop: int) -> Iterator[Finding]:
    """From loop 3: loop 2 follows the ordinary pass, which is no refinement to turn back on."""
    angle = found.mean("update_angle", loop)
    if angle is None or loop < 3:
        return
    row = found._row("update_angle", loop)
    high = row.high if row is not None and isinstance(row.high, float) else angle
    toll, first = found.mean("offset_cost", loop), found.mean("offset_cost", 2)
    turns = angle < 0 and high < 0
    paid = toll is not None and first is not None and toll >= FLAT * first
    known = "" if toll is None or first is None else f", offset cost {toll:.3g} after {first:.3g}"
    verdict: Verdict = "against" if turns and paid else "undecided"
    word = "turns back" if turns else "does not turn back"
    tail = " at an undiminished toll" if turns and paid else ""
    yield _finding(
        found,
        "update angle",
        loop,
        angle,
        verdict,
        f"loop {loop} {word} on loop {loop - 1}{tail}: cosine {angle:.2g}{known}",
        unit="cosine",
    )


def _entropy(found: Diagnostics, loop: int) -> Iterator[Finding]:
    """Sharper is not better: shown, and never for or against."""
    change, level = found.step("output_entropy", loop), found.mean("output_entropy", loop)
    if change is None or level is None:
        return
    word = "sharper" if change.value < 0 else "less sharp"
    yield _finding(
        found,
        "output entropy",
        loop,
        change.value,
        "undecided",
        f"predictions are {word} after loop {loop}: entropy {level - change.value:.3g} to "
        f"{level:.3g} nats, which alone is no gain",
        estimate=change,
        unit="nats",
    )
