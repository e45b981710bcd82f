"""What a step costs beside the model: scheduling, sampling, bookkeeping."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from loopcoder.bench.engines import add_all, measured_model, new_engine, run_until_written
from loopcoder.bench.prompts import draw_prompts
from loopcoder.bench.summary import tenths
from loopcoder.model.config import ModelConfig
from loopcoder.model.plt import PLT

_WARM_UP = 5


def one_million() -> ModelConfig:
    """A model of 1.0 M parameters: its own work takes next to nothing."""
    return ModelConfig(
        vocab_size=2048,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
    )


class Stopwatch:
    """Time spent inside the model while `seconds` is watched: embedding, layers and head."""

    def __init__(self, model: PLT) -> None:
        self.seconds = 0.0
        for holder, name in (
            (model.model, "embed"),
            (model.model, "mix"),
            (model.model, "rows"),
            (model.model, "run_layers"),
            (model.lm_head, "forward"),
        ):
            # An instance's own attribute stands before the class's method.
            object.__setattr__(holder, name, self._timed(getattr(holder, name)))

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - start

        return run


def measure_overhead(
    job: dict[str, Any], *, loops: int, sequences: int, context: int, steps: int
) -> dict[str, Any]:
    """Decode steps of `sequences` sequences: whole step, model, and the difference, in seconds.

    `job` is `plan.Job` as a mapping. Medians over `steps` steps, each row with its 10th and 90th
    percentile. On the CPU only: on a GPU the model's methods return before its work is done.
    """
    model = measured_model(job)
    engine = new_engine(model, sequences=sequences, positions=job["positions"], loops=loops)
    work = {"prompt": context, "sequences": sequences}
    add_all(engine, draw_prompts(job, work, 0), loops=loops, tokens=steps + _WARM_UP + 1)
    run_until_written(engine, sequences)
    watch = Stopwatch(model)
    whole, inside = [], []
    for number in range(steps + _WARM_UP):
        watch.seconds = 0.0
        start = time.perf_counter()
        engine.step()
        seconds = time.perf_counter() - start
        if number >= _WARM_UP:
            whole.append(seconds)
            inside.append(watch.seconds)
    beside = [a - b for a, b in zip(whole, inside, strict=True)]
    return {
        "case": f"R{loops} x {sequences}",
        "measured": "overhead",
        "loops": loops,
        "sequences": sequences,
        "prompt": context,
        "n": steps,
        **_spread("step", whole),
        **_spread("model", inside),
        **_spread("overhead", beside),
    }


def _spread(name: str, seconds: list[float]) -> dict[str, float]:
    low, high = tenths(seconds)
    return {f"{name}_s": median(seconds), f"{name}_p10_s": low, f"{name}_p90_s": high}
