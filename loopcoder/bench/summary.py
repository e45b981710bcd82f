"""Rows and ratios of measured seconds. No torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

from loopcoder.bench.plan import OURS, Case, Workload


@dataclass(kw_only=True)
class Timing:
    """A case's seconds, one a round, or why there are none.

    `facts` are what its worker said when it loaded the model. `plain_reads` are bytes per second
    of reading memory and doing nothing else, measured in the same rounds.
    """

    case: Case
    seconds: list[float] = field(default_factory=list)
    plain_reads: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    skipped: str | None = None


def row(timing: Timing, work: Workload) -> dict[str, Any]:
    """One row of `bench --json`; times and rates of a skipped case are None."""
    case, facts = timing.case, timing.facts
    return {
        "case": case.name,
        "measured": work.kind,
        "engine": case.engine,
        "version": facts.get("version"),
        "loops": case.loops,
        "schedule": case.schedule,
        "prefill": case.prefill,
        "quantization": case.quantization,
        "sequences": work.sequences,
        "prompt": work.prompt,
        "output": work.output,
        **_times(timing.seconds, work.tokens),
        **(_weights(timing) if work.kind == "decode" else {}),
        "skipped": timing.skipped,
    }


def _times(seconds: Sequence[float], tokens: int) -> dict[str, Any]:
    if not seconds:
        return dict.fromkeys(("median_s", "p10_s", "p90_s", "tokens_per_s")) | {"n": 0}
    middle, (low, high) = median(seconds), tenths(seconds)
    return {
        "median_s": middle,
        "p10_s": low,
        "p90_s": high,
        "tokens_per_s": tokens / middle,
        "n": len(seconds),
    }


def tenths(values: Sequence[float]) -> tuple[float, float]:
    """The 10th and 90th percentile, within the values."""
    if len(values) == 1:
        return values[0], values[0]
    cuts = quantiles(values, n=10, method="inclusive")
    return cuts[0], cuts[-1]


def _weights(timing: Timing) -> dict[str, Any]:
    """Weight bytes that a step reads, a second, and that over a plain read of memory."""
    nbytes = timing.facts.get("weight_bytes")
    if not timing.seconds or nbytes is None:
        return dict.fromkeys(("weight_bytes", "weight_bytes_per_s", "over_plain_read"))
    rates = [nbytes / seconds for seconds in timing.seconds]
    shares = [rate / read for rate, read in zip(rates, timing.plain_reads, strict=False)]
    return {
        "weight_bytes": nbytes,
        "weight_bytes_per_s": median(rates),
        "over_plain_read": median(shares) if shares else None,
    }


def ratios(timings: Sequence[Timing], *, of_rates: bool = False) -> dict[str, float]:
    """`A / B`: A's seconds over B's (with `of_rates`, tokens a second), median of pairs.

    A pair is of one round. Compared are, within a format of the weights, every case with the first
    one, peers with each of our cases, other schedules with the usual one; and floats with integers.
    """
    measured = [timing for timing in timings if timing.seconds]
    found = {}
    for a, b in _pairs(measured):
        pairs = zip(a.seconds, b.seconds, strict=True)
        found[f"{a.case.name} / {b.case.name}"] = median(
            y / x if of_rates else x / y for x, y in pairs
        )
    return found


def _pairs(timings: Sequence[Timing]) -> Iterator[tuple[Timing, Timing]]:
    first: dict[str | None, Timing] = {}
    for timing in timings:
        first.setdefault(timing.case.quantization, timing)
    for a in timings:
        for b in timings:
            if a is not b and (first[a.case.quantization] is b or _comparable(a.case, b.case)):
                yield a, b


def _comparable(a: Case, b: Case) -> bool:
    if b.engine != OURS or b.schedule != "parallel" or b.prefill == "full":
        return False
    if a.engine != OURS:
        return a.quantization == b.quantization
    if a.loops != b.loops:
        return False
    if a.quantization == b.quantization:
        return True  # another schedule or prefill
    usual = (a.schedule, a.prefill) == (b.schedule, b.prefill)
    return usual and a.quantization is None
