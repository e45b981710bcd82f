"""`loopcoder generate`: text from a prompt."""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loopcoder.errors import RequestError

if TYPE_CHECKING:
    from loopcoder.engine.llm import LLM
    from loopcoder.types import SamplingParams


def generate(
    prompt: Annotated[
        str | None,
        typer.Argument(help="The text to continue; '-' or nothing reads standard input."),
    ] = None,
    file: Annotated[Path | None, typer.Option(help="Read the prompt from a file.")] = None,
    model: Annotated[
        str, typer.Option(help="Bundled name, directory or hub id.")
    ] = "loopcoder-nano",
    loops: Annotated[
        int | None, typer.Option(help="Loop count; the model's own if not given.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Tokens to write at most.")] = 128,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Sample from the likeliest p of the mass.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Sample from the k likeliest; 0 is off.")] = 0,
    min_p: Annotated[float, typer.Option(help="Drop tokens below this share of the best.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="Stop before this text.")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    quantization: Annotated[
        str | None, typer.Option(help="int8 or int4: keep weights in so many bits.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; torch's choice if unset.")
    ] = None,
    echo: Annotated[bool, typer.Option("--echo", help="Print the prompt first.")] = False,
    stream: Annotated[
        bool, typer.Option("--stream/--no-stream", help="Print text as it comes.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Continue a prompt.

    Example: loopcoder generate "def fibonacci(n):" --max-tokens 64
    """
    text = _prompt(prompt, file)
    from loopcoder.types import SamplingParams

    params = SamplingParams(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        seed=seed,
        stop=tuple(stop or ()),
    )
    from loopcoder.engine.llm import LLM

    llm = LLM(
        model,
        dtype=dtype,
        quantization=quantization,
        device=device,
        max_num_seqs=1,
        loops=loops,
        num_threads=threads,
    )
    if echo and not as_json:
        sys.stdout.write(text)
    result = _run(llm, text, params, show=stream and not as_json)
    _print(result, text, llm.loops, show=not stream, as_json=as_json)


@dataclass(frozen=True, kw_only=True)
class _Result:
    text: str | None
    token_ids: list[int]
    prompt_tokens: int
    finish_reason: str | None
    tokens_per_s: float | None


def _prompt(prompt: str | None, file: Path | None) -> str:
    if prompt not in (None, "-") and file is not None:
        raise RequestError("both a prompt and --file were given; give one of them")
    if file is not None:
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"--file {file} cannot be read as UTF-8 text: {error}") from error
    if prompt not in (None, "-"):
        return str(prompt)
    if prompt is None and sys.stdin.isatty():
        raise RequestError('no prompt: give one, as in `loopcoder generate "def f("`, or --file')
    return sys.stdin.read()


def _run(llm: "LLM", text: str, params: "SamplingParams", *, show: bool) -> _Result:
    events, first, last = [], 0.0, 0.0
    for event in llm.stream(text, params):
        last = time.perf_counter()
        first = first or last
        events.append(event)
        if show:
            sys.stdout.write(event.text)
            sys.stdout.flush()
    # The first token pays for the prompt, so the rate counts the ones after it.
    rate = (len(events) - 1) / (last - first) if len(events) > 1 else None
    return _Result(
        text="".join(event.text for event in events) if llm.tokenizer else None,
        token_ids=[event.token_id for event in events],
        prompt_tokens=len(llm.encode(text)),
        finish_reason=events[-1].finish_reason,
        tokens_per_s=rate,
    )


def _print(result: _Result, prompt: str, loops: int, *, show: bool, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(_as_dict(result, prompt, loops), ensure_ascii=False) + "\n")
        return
    sys.stdout.write((result.text or "" if show else "") + "\n")
    speed = f", {result.tokens_per_s:.0f} tokens/s" if result.tokens_per_s else ""
    plural = "loop" if loops == 1 else "loops"
    sys.stderr.write(f"[{len(result.token_ids)} tokens, {loops} {plural}{speed}]\n")


def _as_dict(result: _Result, prompt: str, loops: int) -> dict[str, Any]:
    written = len(result.token_ids)
    return {
        "text": result.text,
        "prompt": prompt,
        "token_ids": result.token_ids,
        "finish_reason": result.finish_reason,
        "loops": loops,
        "usage": {
            "prompt_tokens": result.prompt_tokens,
            "completion_tokens": written,
            "total_tokens": result.prompt_tokens + written,
        },
        "tokens_per_s": result.tokens_per_s,
    }
