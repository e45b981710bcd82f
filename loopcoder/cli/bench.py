"""`loopcoder bench`: measurements as interleaved pairs."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loopcoder.errors import RequestError

if TYPE_CHECKING:
    from loopcoder.engine.bench import Case

app = typer.Typer(no_args_is_help=True, help="Measure decoding, as medians of interleaved pairs.")


@app.command()
def decode(
    model: Annotated[
        str, typer.Option(help="Bundled name, directory or hub id.")
    ] = "loopcoder-nano",
    loops: Annotated[
        str, typer.Option(help="Loop counts to compare; the first is the base.")
    ] = "1,2",
    schedule: Annotated[
        str, typer.Option(help="parallel, serial, or both as parallel,serial.")
    ] = "parallel",
    context: Annotated[int, typer.Option(help="Tokens in the cache before timing.")] = 512,
    rounds: Annotated[int, typer.Option(help="Timed steps of each case.")] = 20,
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; torch's choice if unset.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Time of one decode step per loop count.

    Example: loopcoder bench decode --loops 1,2 --schedule parallel,serial
    """
    cases = _cases(loops, schedule)
    if rounds < 1 or context < 1:
        raise RequestError(f"--rounds is {rounds} and --context {context}; both must be at least 1")
    from loopcoder.engine.bench import ratios, time_decode
    from loopcoder.engine.llm import LLM

    llm = LLM(model, dtype=dtype, device=device, num_threads=threads)
    for case in cases:
        llm.model.model.check_loops(case.loops)
    timings = time_decode(
        llm.model,
        cases,
        context=context,
        rounds=rounds,
        report=lambda line: print(line, file=sys.stderr),
    )
    result = {
        "machine": _machine(llm.device.type),
        "model": {"name": model, "context": context, "dtype": _dtype(llm.model)},
        "rows": [timing.row() for timing in timings],
        "ratios": ratios(timings),
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n" if as_json else _table(result))


def _cases(loops: str, schedules: str) -> "list[Case]":
    from loopcoder.engine.bench import Case

    try:
        counts = [int(count) for count in loops.split(",")]
    except ValueError as error:
        raise RequestError(f"--loops is {loops!r}; give numbers such as 1,2") from error
    names = schedules.split(",")
    unknown = [name for name in names if name not in ("parallel", "serial")]
    if unknown:
        raise RequestError(f"--schedule has {unknown[0]!r}; it can be parallel, serial or both")
    # One loop is the same step in either schedule, so it is timed once.
    return [Case(loops=n, schedule=s) for n in counts for s in (names if n > 1 else names[:1])]


def _machine(device: str) -> dict[str, Any]:
    import torch

    from loopcoder.records import machine

    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    return {**machine(), "threads": torch.get_num_threads(), "gpu": gpu}


def _dtype(model: Any) -> str:
    return str(model.lm_head.weight.dtype).removeprefix("torch.")


def _table(result: dict[str, Any]) -> str:
    lines = [f"{'case':<14}{'median ms':>11}{'p10':>9}{'p90':>9}{'tokens/s':>11}{'n':>5}"]
    for row in result["rows"]:
        times = (1000 * row[key] for key in ("median_s", "p10_s", "p90_s"))
        middle, low, high = times
        lines.append(
            f"{row['case']:<14}{middle:>11.2f}{low:>9.2f}{high:>9.2f}"
            f"{row['tokens_per_s']:>11.1f}{row['n']:>5}"
        )
    lines += [f"{pair}: {ratio:.3f}" for pair, ratio in result["ratios"].items()]
    return "\n".join(lines) + "\n"
