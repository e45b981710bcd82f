"""Decode time per loop count and schedule, in interleaved rounds (INTERFACE.md, `bench`)."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

import torch

from loopcoder.engine.decode import new_cache, step
from loopcoder.model.plt import PLT


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is timed: a loop count in a schedule ("parallel" or "serial")."""

    loops: int
    schedule: str

    @property
    def name(self) -> str:
        """As it stands in the table, for example `R2 parallel`."""
        return f"R{self.loops} {self.schedule}"


@dataclass(kw_only=True)
class Timing:
    """Seconds of each timed step of a case, one per round."""

    case: Case
    seconds: list[float] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """One row of `bench --json`."""
        middle = median(self.seconds)
        tenths = quantiles(self.seconds, n=10) if len(self.seconds) > 1 else [middle] * 9
        return {
            "case": self.case.name,
            "loops": self.case.loops,
            "schedule": self.case.schedule,
            "median_s": middle,
            "p10_s": tenths[0],
            "p90_s": tenths[-1],
            "tokens_per_s": 1 / middle,
            "n": len(self.seconds),
        }


def time_decode(
    model: PLT,
    cases: Sequence[Case],
    *,
    context: int,
    rounds: int,
    report: Callable[[str], None] = lambda _: None,
) -> list[Timing]:
    """Time one-token steps after `context` tokens, the cases in turn: A B A B ...

    Loops that a model was not trained for run as well: time does not depend on the weights.
    """
    runners = []
    for case in cases:
        report(f"{case.name}: reading a prompt of {context} tokens")
        runners.append(_step_after(model, case, context))
    timings = [Timing(case=case) for case in cases]
    for number in range(rounds + 1):
        for timing, run in zip(timings, runners, strict=True):
            seconds = run()
            if number:  # the first round warms up
                timing.seconds.append(seconds)
        report(f"round {number} of {rounds}")
    return timings


def ratios(timings: Sequence[Timing]) -> dict[str, float]:
    """Median over rounds of each case's time over the first case's, in the same round."""
    base = timings[0]
    return {
        f"{other.case.name} / {base.case.name}": median(
            a / b for a, b in zip(other.seconds, base.seconds, strict=True)
        )
        for other in timings[1:]
    }


def _step_after(model: PLT, case: Case, context: int) -> Callable[[], float]:
    generator = torch.Generator().manual_seed(0)
    device, vocabulary = model.lm_head.weight.device, model.config.vocab_size
    token_BT = torch.randint(vocabulary, (1, context), generator=generator).to(device)
    cache = new_cache(model, case.loops)
    step(model, cache, token_BT)
    together = case.schedule == "parallel"

    def run() -> float:
        start = time.perf_counter()
        logits_BV = step(model, cache, token_BT[:, :1], together=together)
        logits_BV[0, 0].item()  # waits for the device
        return time.perf_counter() - start

    return run
