"""Rows and ratios of what was measured. No torch."""

from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

from loopcoder.bench.serving.plan import ALONE, OURS, Case, Outcome, Plan
from loopcoder.bench.serving.rounds import Measured
from loopcoder.bench.summary import tenths

_FIELDS = (
    "clients",
    "stream",
    "ttft_s",
    "ttft_p90_s",
    "tpot_s",
    "latency_s",
    "tokens_per_s",
    "p10_tokens_per_s",
    "p90_tokens_per_s",
    "processor_s_per_token",
)


def rows(measured: Sequence[Measured], plan: Plan) -> list[dict[str, Any]]:
    """A row for each case, one for each peer that was skipped, one for each server's start."""
    found = []
    for each in measured:
        if each.skipped is not None:
            found.append(_row(each, plan) | {"skipped": each.skipped})
        for case in each.outcomes:
            found.append(_row(each, plan) | _figures(each, case))
    return found + [_start(each) for each in measured if each.first_tokens]


def _row(each: Measured, plan: Plan) -> dict[str, Any]:
    return {
        "case": each.name,
        "measured": "serve",
        "engine": each.engine,
        "loops": each.loops,
        "prompt": plan.prompt,
        "output": plan.tokens,
        "skipped": None,
        **dict.fromkeys(_FIELDS),
        "requests": 0,
        "errors": 0,
        "n": 0,
    }


def _figures(each: Measured, case: Case) -> dict[str, Any]:
    """Medians over the rounds of what a round's median or 90th percentile was."""
    outcomes = each.outcomes[case]
    rates = [outcome.tokens / outcome.seconds for outcome in outcomes]
    low, high = tenths(rates)
    work = [each.processor / each.tokens for each in outcomes if each.processor is not None]
    return {
        "clients": case.clients,
        "stream": case.stream,
        "ttft_s": _median(outcomes, lambda each: each.ttft),
        "ttft_p90_s": _median(outcomes, lambda each: each.ttft_p90),
        "tpot_s": _median(outcomes, lambda each: each.tpot),
        "latency_s": _median(outcomes, lambda each: each.latency),
        "tokens_per_s": median(rates),
        "p10_tokens_per_s": low,
        "p90_tokens_per_s": high,
        "processor_s_per_token": median(work) if work else None,
        "requests": sum(outcome.requests for outcome in outcomes),
        "errors": sum(outcome.errors for outcome in outcomes),
        "n": len(outcomes),
    }


def _median(outcomes: Sequence[Outcome], of: Callable[[Outcome], float | None]) -> float | None:
    values = [value for outcome in outcomes if (value := of(outcome)) is not None]
    return median(values) if values else None


def _start(each: Measured) -> dict[str, Any]:
    low, high = tenths(each.first_tokens)
    return {
        "case": each.name,
        "measured": "start to first token",
        "engine": each.engine,
        "loops": each.loops,
        "median_s": median(each.first_tokens),
        "p10_s": low,
        "p90_s": high,
        "n": len(each.first_tokens),
    }


def ratios(measured: Sequence[Measured]) -> dict[str, float]:
    """Tokens a second: our server over the engine alone, and over each peer; medians of rounds."""
    found = {}
    for ours, other in _pairs(measured):
        for case, outcomes in ours.outcomes.items():
            same = case.stream if other.engine != ALONE else None
            against = other.outcomes.get(
                Case(engine=other.name, clients=case.clients, stream=same), []
            )
            if against:
                name = f"{ours.name} / {other.name}, {case.clients} clients, {manner(case.stream)}"
                pairs = zip(outcomes, against, strict=False)
                found[name] = median(_rate(a) / _rate(b) for a, b in pairs)
    return found


def _pairs(measured: Sequence[Measured]) -> Iterator[tuple[Measured, Measured]]:
    for ours in (each for each in measured if each.engine == OURS):
        for other in measured:
            if other.engine not in (OURS, ALONE) or (
                other.engine == ALONE and other.loops == ours.loops
            ):
                yield ours, other


def _rate(outcome: Outcome) -> float:
    return outcome.tokens / outcome.seconds


def manner(stream: bool | None) -> str:
    """How the answers come."""
    return {True: "streams", False: "whole answers", None: "no server"}[stream]
