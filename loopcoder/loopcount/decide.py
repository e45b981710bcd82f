"""From differences to a choice: the decision table of docs/advice.md."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from loopcoder.errors import RequestError
from loopcoder.loopcount.advice import Confidence, Cost, Verdict
from loopcoder.loopcount.costs import DECODE, FLOPS, cost_ratio
from loopcoder.loopcount.intervals import MIN_UNITS, Estimate
from loopcoder.loopcount.sweep import Sweep

NEGLIGIBLE = 0.01  # of what the fewer loops give: an uncertain gain below it is not worth a loop
MOSTLY = 0.95  # share of resamples that makes a choice likely though a comparison is open
ENOUGH_UNITS = 30  # for "sure": with fewer, intervals of 95 % hold about 91 %


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the user will pay, as ratios to one loop, and the least gain in bits per byte.

    Raises `RequestError`, naming the option, for a value that no loop count could meet.
    """

    max_latency: float | None = None
    max_flops: float | None = None
    min_gain: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges; NaN lies in none."""
        for name, least in (("max_latency", 1), ("max_flops", 1), ("min_gain", 0)):
            value = getattr(self, name)
            if value is not None and not least <= value < float("inf"):
                option = "--" + name.replace("_", "-")
                raise RequestError(f"{option} is {value}; it must be {least} or more")

    @property
    def ratios(self) -> tuple[tuple[str, str, float], ...]:
        """Option, kind of cost and limit of those that are set."""
        pairs = (
            ("--max-latency", DECODE, self.max_latency),
            ("--max-flops", FLOPS, self.max_flops),
        )
        return tuple((option, what, limit) for option, what, limit in pairs if limit is not None)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What one sweep says. `open` are larger counts that may still be better."""

    loops: int | None
    confidence: Confidence
    basis: str
    open: tuple[int, ...]
    lowest_share: float | None


def least_gain(sweep: Sweep, limits: Limits) -> float:
    """The margin that a gain must reach; of scores there is none."""
    return limits.min_gain if sweep.better < 0 else 0.0


def judge(sweep: Sweep, fewer: int, more: int, margin: float) -> Verdict:
    """Whether `more` loops are worth it: a certain gain of `margin`, or certainly less.

    Without a margin an interval that ends below 1 % of what `fewer` loops give also says no.
    """
    gain = sweep.gain(fewer, more)
    if gain.called and gain.value > 0 and gain.value >= margin:
        return "for"
    if gain.high99 is None or gain.units < MIN_UNITS:
        return "undecided"
    level = next(level.value for level in sweep.levels if level.loops == fewer)
    enough = margin or NEGLIGIBLE * abs(level)
    return "against" if gain.high99 < enough else "undecided"


def choose(sweep: Sweep, candidates: Sequence[int], margin: float) -> Choice:
    """The fewest loops that no other candidate beats for certain, if anything is certain."""
    verdicts = {pair: judge(sweep, *pair, margin) for pair in combinations(sorted(candidates), 2)}
    beaten = {fewer for (fewer, _), v in verdicts.items() if v == "for"}
    beaten |= {more for (_, more), v in verdicts.items() if v == "against"}
    unbeaten = [loops for loops in sorted(candidates) if loops not in beaten]
    if not unbeaten:
        return _cannot("each loop count is beaten by another", ())
    best = unbeaten[0]
    share = sweep.shares(sorted(candidates))[best]
    larger = tuple(m for (f, m), v in verdicts.items() if f == best and v == "undecided")
    smaller = [f for (f, m), v in verdicts.items() if m == best and v != "for"]
    if larger and not beaten & set(range(best)):
        return _cannot(_why_open(sweep, best, larger), larger)
    return Choice(
        loops=best,
        confidence=_confidence(sweep, [*larger, *smaller], share),
        basis=_basis(sweep, best, sorted(candidates), share),
        open=larger,
        lowest_share=share,
    )


def _cannot(basis: str, larger: tuple[int, ...]) -> Choice:
    return Choice(loops=None, confidence="cannot tell", basis=basis, open=larger, lowest_share=None)


def _confidence(sweep: Sweep, unsettled: Sequence[int], share: float) -> Confidence:
    if unsettled:
        return "likely" if share >= MOSTLY else "weak"
    certain = sweep.units >= ENOUGH_UNITS and (sweep.paired_models or sweep.counts_seeds)
    return "sure" if certain else "likely"


def _why_open(sweep: Sweep, best: int, larger: Sequence[int]) -> str:
    gain = sweep.gain(best, larger[0])
    if sweep.units < MIN_UNITS:
        return (
            f"{sweep.counted}: too few to decide by; {MIN_UNITS} are the least, {ENOUGH_UNITS} "
            "enough to be sure"
        )
    return (
        f"the gain of {count(larger[0])} over {best} is {spell(gain)} {sweep.unit}: it may be "
        "worth a loop, and it may be nothing"
    )


def _basis(sweep: Sweep, best: int, candidates: Sequence[int], share: float) -> str:
    among = ", ".join(map(str, candidates))
    return (
        f"{sweep.name} ({sweep.basis}) of {among} loops on {sweep.counted}: {best} is the "
        f"best in {share:.1%} of resamples"
    )


def within(
    candidates: Iterable[int], costs: Sequence[Cost], limits: Limits
) -> tuple[list[int], list[str]]:
    """Those within the limits, and why each of the others is not.

    Raises `RequestError` if a limit is set and its cost is known for none but one loop.
    """
    kept, dropped = sorted(candidates), []
    for option, what, limit in limits.ratios:
        known = {loops: cost_ratio(costs, what, loops) for loops in kept}
        if not any(cost for loops, cost in known.items() if loops > 1) and max(kept, default=1) > 1:
            raise RequestError(
                f"{option} is {limit:g}, and nothing given says the {what} of more than one loop; "
                + ("add `loopcoder bench decode --json`" if what == DECODE else "probe again")
            )
        for loops in [*kept]:
            cost = known[loops]
            if loops == 1 or (cost is not None and cost.ratio <= limit):
                continue
            kept.remove(loops)
            dropped.append(
                f"{count(loops)} left out: no {what} of theirs is known, and {option} is {limit:g}"
                if cost is None
                else f"{count(loops)} left out: {what} x {cost.ratio:.3g} ({cost.basis}), "
                f"{option} is {limit:g}"
            )
    return kept, dropped


def count(loops: int) -> str:
    """`1 loop`, `2 loops`."""
    return f"{loops} loop" + ("" if loops == 1 else "s")


def spell(gain: Estimate) -> str:
    """A difference and its 99 % interval."""
    if gain.low99 is None or gain.high99 is None:
        return f"{gain.value:+.3g}"
    return f"{gain.value:+.3g} (99 %: {gain.low99:+.3g} to {gain.high99:+.3g})"
