"""`loopcoder bench`: measurements, as medians of interleaved rounds."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loopcoder.bench import settings
from loopcoder.cli.bench_serve import serve

if TYPE_CHECKING:
    from loopcoder.bench.target import Target

app = typer.Typer(
    no_args_is_help=True,
    help="Measure decoding, prefill, memory, throughput, overhead and the server, beside others.",
)

Model = Annotated[
    str | None, typer.Option(help="Bundled name, directory or hub id; loopcoder-nano if unset.")
]
Like = Annotated[
    str | None, typer.Option(help="Instead of --model: a shape, with random weights in memory.")
]
Layers = Annotated[int | None, typer.Option(help="With --like: number of layers.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="With --like: change a field: vocab_size=4096.")
]
Loops = Annotated[str, typer.Option(help="Loop counts to compare; the first is the base.")]
Quantization = Annotated[str, typer.Option(help="none, int8, int4, or several: none,int4.")]
Batch = Annotated[int, typer.Option(help="Sequences at once.")]
Rounds = Annotated[int, typer.Option(help="Measurements of each case.")]
Dtype = Annotated[str, typer.Option(help="auto, float32 or bfloat16.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; one a core if unset.")]
Peer = Annotated[
    str | None,
    typer.Option(help="Dense engines of the same shape: transformers,vllm,llama.cpp."),
]
PeerPython = Annotated[
    list[str] | None, typer.Option(help="Python in which a peer is installed: vllm=PATH.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def decode(
    model: Model = None,
    like: Like = None,
    layers: Layers = None,
    set_: Set = None,
    loops: Loops = "1,2",
    schedule: Annotated[str, typer.Option(help="parallel, serial or both.")] = "parallel",
    quantization: Quantization = "none",
    context: Annotated[int, typer.Option(help="Tokens of each sequence before timing.")] = 512,
    batch: Batch = 1,
    rounds: Rounds = 20,
    dtype: Dtype = "auto",
    device: Device = "auto",
    threads: Threads = None,
    peer: Peer = None,
    peer_python: PeerPython = None,
    as_json: AsJson = False,
) -> None:
    """Time of one decode step, and the bytes of weights that it reads in a second.

    Example: loopcoder bench decode --loops 1,2 --schedule parallel,serial
    """
    counts = settings.numbers("--loops", loops)
    schedules = settings.words("--schedule", schedule, ("parallel", "serial"))
    formats = settings.quantizations(quantization)
    settings.positive(context=context, batch=batch)
    from loopcoder.bench.plan import Workload, our_cases

    _compare(
        _target(model, like, layers, set_),
        our_cases(counts, formats, schedules=schedules),
        Workload(kind="decode", sequences=batch, prompt=context),
        as_json,
        **_run_options(rounds, dtype, device, threads, peer, peer_python),
    )


@app.command()
def prefill(
    model: Model = None,
    like: Like = None,
    layers: Layers = None,
    set_: Set = None,
    loops: Loops = "1,2",
    schedule: Annotated[
        str, typer.Option(help="Later loops on the tail that matters, or in full: tail,full.")
    ] = "tail",
    quantization: Quantization = "none",
    tokens: Annotated[
        int | None, typer.Option(help="Length of the prompt; 4096 if unset, or what fits.")
    ] = None,
    rounds: Rounds = 5,
    dtype: Dtype = "auto",
    device: Device = "auto",
    threads: Threads = None,
    peer: Peer = None,
    peer_python: PeerPython = None,
    as_json: AsJson = False,
) -> None:
    """Time from a prompt to its first token.

    Example: loopcoder bench prefill --tokens 256 --schedule tail,full
    """
    counts = settings.numbers("--loops", loops)
    prefills = settings.words("--schedule", schedule, ("tail", "full"))
    formats = settings.quantizations(quantization)
    target = _target(model, like, layers, set_)
    if tokens is None:
        tokens = min(4096, target.config.max_position_embeddings - 2)
    settings.positive(tokens=tokens)
    from loopcoder.bench.plan import Workload, our_cases

    _compare(
        target,
        our_cases(counts, formats, prefills=prefills),
        Workload(kind="prefill", prompt=tokens),
        as_json,
        **_run_options(rounds, dtype, device, threads, peer, peer_python),
    )


@app.command()
def throughput(
    model: Model = None,
    like: Like = None,
    layers: Layers = None,
    set_: Set = None,
    loops: Loops = "1,2",
    schedule: Annotated[str, typer.Option(help="parallel, serial or both.")] = "parallel",
    quantization: Quantization = "none",
    sequences: Annotated[int, typer.Option(help="Prompts that arrive together.")] = 8,
    prompt_tokens: Annotated[int, typer.Option(help="Length of each prompt.")] = 128,
    output_tokens: Annotated[int, typer.Option(help="Tokens written for each.")] = 64,
    rounds: Rounds = 3,
    dtype: Dtype = "auto",
    device: Device = "auto",
    threads: Threads = None,
    peer: Peer = None,
    peer_python: PeerPython = None,
    as_json: AsJson = False,
) -> None:
    """Tokens written in a second for several prompts at once, reading them included.

    Example: loopcoder bench throughput --sequences 4 --prompt-tokens 32 --output-tokens 16
    """
    counts = settings.numbers("--loops", loops)
    schedules = settings.words("--schedule", schedule, ("parallel", "serial"))
    formats = settings.quantizations(quantization)
    settings.positive(sequences=sequences, prompt_tokens=prompt_tokens, output_tokens=output_tokens)
    from loopcoder.bench.plan import Workload, our_cases

    _compare(
        _target(model, like, layers, set_),
        our_cases(counts, formats, schedules=schedules),
        Workload(
            kind="throughput", sequences=sequences, prompt=prompt_tokens, output=output_tokens
        ),
        as_json,
        **_run_options(rounds, dtype, device, threads, peer, peer_python),
    )


@app.command()
def memory(
    model: Model = None,
    like: Like = None,
    layers: Layers = None,
    set_: Set = None,
    loops: Loops = "1,2",
    context: Annotated[
        str | None, typer.Option(help="Tokens in memory, such as 512,4500, its value if unset.")
    ] = None,
    batch: Batch = 1,
    dtype: Dtype = "auto",
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Bytes of keys, values and carried states in the running engine, beside the formulas.

    Example: loopcoder bench memory --loops 1,2,4 --context 256
    """
    counts = settings.numbers("--loops", loops)
    target = _target(model, like, layers, set_)
    room = target.config.max_position_embeddings - 2
    contexts = tuple(c for c in (512, 4500) if c <= room) or (room,)
    if context is not None:
        contexts = settings.numbers("--context", context)
    settings.positive(batch=batch)
    from loopcoder.bench.run import inspect_memory

    result = inspect_memory(
        target,
        loops=counts,
        contexts=contexts,
        sequences=batch,
        dtype=settings.float_format(dtype),
        device=device,
        threads=settings.thread_count(threads),
        report=_report,
    )
    _print(result, as_json)


@app.command()
def overhead(
    loops: Loops = "2",
    sequences: Annotated[int, typer.Option(help="Sequences that decode together.")] = 16,
    context: Annotated[int, typer.Option(help="Tokens of each sequence before timing.")] = 64,
    rounds: Annotated[int, typer.Option(help="Timed steps.")] = 200,
    dtype: Dtype = "float32",
    threads: Threads = 1,
    as_json: AsJson = False,
) -> None:
    """Time of a decode step beside the model, on a model of 1 M parameters; CPU only.

    Example: loopcoder bench overhead --sequences 16
    """
    counts = settings.numbers("--loops", loops)
    settings.positive(sequences=sequences, context=context, rounds=rounds)
    from loopcoder.bench.run import time_overhead

    result = time_overhead(
        loops=counts,
        sequences=sequences,
        context=context,
        steps=rounds,
        dtype=settings.float_format(dtype),
        threads=settings.thread_count(threads),
    )
    _print(result, as_json)


@app.command()
def probe(
    model: Model = None,
    like: Like = None,
    layers: Layers = None,
    set_: Set = None,
    loops: Loops = "2",
    length: Annotated[int, typer.Option(help="Tokens of the sample.")] = 512,
    rounds: Rounds = 10,
    dtype: Dtype = "auto",
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Time of `loopcoder probe` for a sample, beside the forward pass that it observes.

    Example: loopcoder bench probe --length 256
    """
    counts = settings.numbers("--loops", loops)
    settings.positive(length=length, rounds=rounds)
    from loopcoder.bench.run import time_probe

    result = time_probe(
        _target(model, like, layers, set_),
        loops=counts,
        length=length,
        rounds=rounds,
        dtype=settings.float_format(dtype),
        device=device,
        threads=settings.thread_count(threads),
    )
    _print(result, as_json)


app.command()(serve)


def _target(
    model: str | None, like: str | None, layers: int | None, changes: list[str] | None
) -> "Target":
    from loopcoder.bench.target import find_target

    return find_target(model, like, layers, changes or ())


def _run_options(
    rounds: int,
    dtype: str,
    device: str,
    threads: int | None,
    peer: str | None,
    peer_python: list[str] | None,
) -> dict[str, Any]:
    """The options of every comparison, checked."""
    settings.positive(rounds=rounds)
    return {
        "rounds": rounds,
        "dtype": settings.float_format(dtype),
        "device": device,
        "threads": settings.thread_count(threads),
        "peers": settings.peers(peer),
        "pythons": settings.peer_pythons(peer_python or []),
    }


def _compare(target: "Target", cases: Any, work: Any, as_json: bool, **options: Any) -> None:
    from loopcoder.bench.run import compare

    _print(compare(target, cases, work, report=_report, **options), as_json)


def _report(line: str) -> None:
    print(line, file=sys.stderr)


def _print(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return
    from loopcoder.bench.tables import show

    show(result)
