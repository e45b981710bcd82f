"""A comparison from start to the object that `loopcoder bench --json` prints. No torch here."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from loopcoder.bench.plan import OURS, Case, Job, Subject, Workload, subjects
from loopcoder.bench.rounds import Comparison
from loopcoder.bench.summary import Timing, ratios, row
from loopcoder.bench.target import Target
from loopcoder.errors import RequestError, file_errors
from loopcoder.home import cache_home
from loopcoder.records import machine

if TYPE_CHECKING:
    from loopcoder.bench.engines import Place

_WARM_UP_STEPS = 4


def compare(
    target: Target,
    cases: list[Case],
    work: Workload,
    *,
    rounds: int,
    dtype: str,
    device: str,
    threads: int,
    peers: tuple[str, ...] = (),
    pythons: dict[str, str] | None = None,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Measure every case in every round.

    Raises `RequestError` for what the model cannot do, `WorkerError` where our engine fails.
    """
    check_cases(target, cases)
    steps = 2 * rounds + _WARM_UP_STEPS  # at each turn one more, to warm up
    job = Job(
        config=target.config,
        model=target.model,
        dtype=dtype,
        device=device,
        threads=threads,
        positions=work.positions(steps),
        sequences=work.sequences,
    )
    check_length(target, job.positions)
    with tempfile.TemporaryDirectory(dir=_scratch_root(), prefix="bench-") as scratch:
        several = subjects(cases, peers, pythons or {})
        comparison = Comparison(several, job, work, Path(scratch), report)
        timings = comparison.run(rounds)
    return _result(target, work, timings, threads, comparison.together)


def check_cases(target: Target, cases: Sequence[Case]) -> None:
    """Raise `RequestError` where a checkpoint without gates is asked for several loops."""
    most = max(case.loops for case in cases)
    if target.config.plt_num_loops == 1 and most > 1:
        raise RequestError(f"--loops has {most}; {target.name} has no gates and runs 1 loop only")


def check_length(target: Target, positions: int) -> None:
    """Raise `RequestError` for sequences that are longer than the model's positions."""
    limit = target.config.max_position_embeddings
    if positions > limit:
        raise RequestError(
            f"the measurement needs sequences of {positions} tokens, and {target.name} has "
            f"{limit} positions; lower --context, --tokens or --rounds"
        )


def _scratch_root() -> Path:
    """Peers' files go to the cache directory: a temporary one may be memory."""
    home = cache_home()
    with file_errors(RequestError, "set LOOPCODER_HOME to a directory that can be written"):
        home.mkdir(parents=True, exist_ok=True)
    return home


def _result(
    target: Target, work: Workload, timings: list[Timing], threads: int, together: bool
) -> dict[str, Any]:
    ours = next(timing for timing in timings if timing.case.engine == OURS)
    reads = [rate for timing in timings for rate in timing.plain_reads]
    facts = ours.facts
    return {
        "machine": {
            **machine(),
            "threads": threads,
            **facts["machine"],
            "kernels": _kernels(timings),
            "plain_read_bytes_per_s": median(reads) if reads else None,
            "turns": "interleaved" if together else "one engine loaded at a time",
        },
        "model": {**target.record(facts["dtype"]), "prompt": work.prompt},
        "rows": [row(timing, work) for timing in timings],
        "ratios": ratios(timings, of_rates=work.kind == "throughput"),
    }


def inspect_memory(
    target: Target,
    *,
    loops: tuple[int, ...],
    contexts: tuple[int, ...],
    sequences: int,
    dtype: str,
    device: str,
    threads: int,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Bytes that the engine holds at each context and loop count (SPEC.md section 2)."""
    check_cases(target, [Case(loops=n) for n in loops])
    check_length(target, max(contexts) + 2)
    from loopcoder.bench.engines import describe_place, measured_model
    from loopcoder.bench.memory import measure_memory, memory_ratios

    job = _own_job(target, dtype, device, threads, max(contexts) + 2, sequences)
    model = measured_model(job)
    rows = []
    for context in contexts:
        for count in loops:
            report(f"R{count}: reading {sequences} x {context} tokens")
            rows.append(
                measure_memory(model, job, loops=count, context=context, sequences=sequences)
            )
    place = describe_place(model)
    return {
        "machine": _own_machine(place, threads),
        "model": target.record(place.dtype),
        "rows": rows,
        "ratios": memory_ratios(rows),
    }


def time_overhead(
    *,
    loops: tuple[int, ...],
    sequences: int,
    context: int,
    steps: int,
    dtype: str,
    threads: int,
) -> dict[str, Any]:
    """What a decode step costs beside the model, for each loop count."""
    from loopcoder.bench.engines import describe_place, measured_model
    from loopcoder.bench.overhead import measure_overhead, one_million

    target = Target(name="1 M parameters", config=one_million(), model=None)
    positions = context + steps + 16
    check_length(target, positions)
    job = _own_job(target, dtype, "cpu", threads, positions, sequences)
    rows = [
        measure_overhead(job, loops=count, sequences=sequences, context=context, steps=steps)
        for count in loops
    ]
    place = describe_place(measured_model(job))
    return {
        "machine": _own_machine(place, threads),
        "model": target.record(place.dtype),
        "rows": rows,
        "ratios": {},
    }


def time_probe(
    target: Target,
    *,
    loops: tuple[int, ...],
    length: int,
    rounds: int,
    dtype: str,
    device: str,
    threads: int,
) -> dict[str, Any]:
    """What `loopcoder probe` costs beside the forward passes it observes."""
    check_cases(target, [Case(loops=n) for n in loops])
    check_length(target, length)
    from loopcoder.bench.engines import describe_place, measured_model
    from loopcoder.bench.probing import measure_probe

    model = measured_model(_own_job(target, dtype, device, threads, length, 1))
    rows, times = measure_probe(model, loops=loops, length=length, rounds=rounds)
    place = describe_place(model)
    return {
        "machine": _own_machine(place, threads),
        "model": target.record(place.dtype),
        "rows": rows,
        "ratios": times,
    }


def _own_machine(place: "Place", threads: int) -> dict[str, Any]:
    kernels = {place.dtype: place.kernels}
    return {**machine(), "threads": threads, **place.machine, "kernels": kernels}


def _own_job(
    target: Target, dtype: str, device: str, threads: int, positions: int, sequences: int
) -> dict[str, Any]:
    """A job for our engine in this process."""
    job = Job(
        config=target.config,
        model=target.model,
        dtype=dtype,
        device=device,
        threads=threads,
        positions=positions,
        sequences=sequences,
    )
    return job.message(Subject(engine=OURS, quantization=None, cases=()))


def _kernels(timings: list[Timing]) -> dict[str, list[str]]:
    """Names of the products' kernels, by format of our engine's weights."""
    return {
        timing.case.quantization or timing.facts["dtype"]: timing.facts["kernels"]
        for timing in timings
        if timing.case.engine == OURS
    }
