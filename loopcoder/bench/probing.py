"""What measuring costs: a probe of one sample beside the plain forward pass of the same loops."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from loopcoder.bench.summary import tenths
from loopcoder.model.plt import PLT
from loopcoder.probes.observe import ProbeOptions, observe

_CASES = {
    "no attention": ProbeOptions(attention=False),
    "all": ProbeOptions(),
}


def measure_probe(
    model: PLT, *, loops: tuple[int, ...], length: int, rounds: int
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows of seconds, and the ratios of each probe to the forward pass, as medians of pairs.

    The forward pass gives the logits of the last loop at every position, as the model does. The
    tokens are random: what they are does not change the work.
    """
    device = model.model.embed_tokens.weight.device
    chance = torch.Generator().manual_seed(0)
    token_BT = torch.randint(model.config.vocab_size, (1, length), generator=chance).to(device)
    rows, ratios = [], {}
    for count in loops:
        cases: dict[str, Callable[[], object]] = {
            f"R{count} forward": _forward(model, token_BT, count)
        }
        for name, options in _CASES.items():
            cases[f"R{count} probe, {name}"] = _probe(model, token_BT, count, options)
        seconds = _interleaved(cases, rounds, device)
        base, *probes = seconds
        for case, times in seconds.items():
            low, high = tenths(times)
            rows.append(
                {
                    "case": case,
                    "measured": "probe",
                    "loops": count,
                    "prompt": length,
                    "median_s": median(times),
                    "p10_s": low,
                    "p90_s": high,
                    "n": rounds,
                }
            )
        for case in probes:
            pairs = zip(seconds[case], seconds[base], strict=True)
            ratios[f"{case} / {base}"] = median(a / b for a, b in pairs)
    return rows, ratios


def _forward(model: PLT, token_BT: torch.Tensor, loops: int) -> Callable[[], object]:
    def run() -> object:
        with torch.inference_mode():
            return model(token_BT, num_loops=loops)

    return run


def _probe(
    model: PLT, token_BT: torch.Tensor, loops: int, options: ProbeOptions
) -> Callable[[], object]:
    return lambda: observe(model, token_BT, loops, options)


def _interleaved(
    cases: dict[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of every case in every round, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, run in cases.items():
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds
