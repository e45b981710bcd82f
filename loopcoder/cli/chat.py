"""`loopcoder chat`: a conversation in the terminal."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from loopcoder.engine.llm import LLM
    from loopcoder.types import SamplingParams


def chat(
    model: Annotated[
        str, typer.Option(help="Bundled name, directory or hub id of a model tuned for chat.")
    ] = "loopcoder-nano",
    system: Annotated[str | None, typer.Option(help="A system message to begin with.")] = None,
    loops: Annotated[
        int | None, typer.Option(help="Loop count; the model's own if not given.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Tokens of one answer at most.")] = 512,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Sample from the likeliest p of the mass.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    quantization: Annotated[
        str | None, typer.Option(help="int8 or int4: keep weights in so many bits.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; torch's choice if unset.")
    ] = None,
) -> None:
    """Talk with a model, a line at a time; an empty line or end of input leaves.

    Example: loopcoder chat --model ./smollm2
    """
    from loopcoder.engine.llm import LLM
    from loopcoder.types import SamplingParams

    params = SamplingParams(max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed)
    llm = LLM(
        model,
        dtype=dtype,
        quantization=quantization,
        device=device,
        max_num_seqs=1,
        loops=loops,
        num_threads=threads,
    )
    messages = [{"role": "system", "content": system}] if system else []
    while line := _ask():
        messages.append({"role": "user", "content": line})
        messages.append({"role": "assistant", "content": _answer(llm, messages, params)})


def _ask() -> str:
    if sys.stdin.isatty():
        sys.stderr.write("> ")
        sys.stderr.flush()
    return sys.stdin.readline().strip()


def _answer(llm: "LLM", messages: list[dict[str, str]], params: "SamplingParams") -> str:
    pieces = []
    for event in llm.stream(llm.chat_tokens(messages), params):
        pieces.append(event.text)
        sys.stdout.write(event.text)
        sys.stdout.flush()
    sys.stdout.write("\n")
    return "".join(pieces)
