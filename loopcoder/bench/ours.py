"""Our own engine as a worker, one model for all its cases."""

import time
from dataclasses import asdict
from typing import Any

import torch

from loopcoder.bench.engines import (
    add_all,
    describe_place,
    measured_model,
    new_engine,
    run_until_done,
    run_until_written,
)
from loopcoder.bench.plain_read import plain_read
from loopcoder.bench.prompts import brief, draw_prompts
from loopcoder.bench.worker import Runner
from loopcoder.engine.core import Engine
from loopcoder.records import machine

_READ_BYTES = 2**30  # far beyond any cache


def new_runner() -> Runner:
    """The runner; our engine is always installed."""
    return OurRunner()


class OurRunner:
    """`loopcoder.engine` on a PLT."""

    def __init__(self) -> None:
        self.cases: dict[str, tuple[Engine, dict[str, Any], dict[str, Any]]] = {}
        self.memory: torch.Tensor | None = None

    def load(self, job: dict[str, Any]) -> dict[str, Any]:
        """See `Runner`."""
        self.job = job
        self.model = measured_model(job)
        return {"version": machine()["loopcoder"], **asdict(describe_place(self.model))}

    def prepare(self, key: str, case: dict[str, Any], work: dict[str, Any]) -> None:
        """See `Runner`."""
        engine = new_engine(
            self.model,
            sequences=work["sequences"],
            positions=self.job["positions"],
            loops=case["loops"],
            schedule=case["schedule"],
            prefill=case["prefill"] or "tail",
        )
        self.cases[key] = engine, case, work
        if work["kind"] == "decode":
            room = self.job["positions"] - work["prompt"] - 1
            add_all(engine, draw_prompts(self.job, work, 0), loops=case["loops"], tokens=room)
            run_until_written(engine, work["sequences"])
        else:
            self._answer(engine, draw_prompts(self.job, brief(work), -1), case, work)

    def measure(self, key: str, number: int) -> float:
        """See `Runner`."""
        engine, case, work = self.cases[key]
        prompts = [] if work["kind"] == "decode" else draw_prompts(self.job, work, number)
        start = time.perf_counter()
        if work["kind"] == "decode":
            run_until_written(engine, work["sequences"])
        else:
            self._answer(engine, prompts, case, work)
        return time.perf_counter() - start

    def _answer(
        self, engine: Engine, prompts: list[list[int]], case: dict[str, Any], work: dict[str, Any]
    ) -> None:
        add_all(engine, prompts, loops=case["loops"], tokens=work["output"])
        run_until_done(engine)

    def read(self) -> float:
        """Bytes per second of reading memory and doing nothing else (on a GPU: of copying it)."""
        if self.memory is None:
            device = self.model.model.norm.weight.device
            self.memory = torch.ones(_READ_BYTES // 8, dtype=torch.long, device=device)
        return plain_read(self.memory)
