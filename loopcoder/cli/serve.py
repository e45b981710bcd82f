"""`loopcoder serve`: an OpenAI-compatible server and a page that shows the loops."""

import logging
import os
import sys
from typing import Annotated

import typer


def serve(
    model: Annotated[
        str, typer.Option(help="Bundled name, directory or hub id.")
    ] = "loopcoder-nano",
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8000,
    api_key: Annotated[
        list[str] | None,
        typer.Option(help="Key that clients must send; repeatable. Also LOOPCODER_API_KEY."),
    ] = None,
    served_model_name: Annotated[
        str | None, typer.Option(help="Name for clients; --model as typed if unset.")
    ] = None,
    loops: Annotated[
        int | None, typer.Option(help="Loop count where a request names none.")
    ] = None,
    max_num_seqs: Annotated[int, typer.Option(help="Sequences that run together.")] = 16,
    max_model_len: Annotated[
        int | None, typer.Option(help="Tokens of prompt and answer; the model's own if unset.")
    ] = None,
    max_num_batched_tokens: Annotated[
        int | None, typer.Option(help="Rows, (token, loop) pairs, of one step.")
    ] = None,
    kv_cache_memory_bytes: Annotated[
        int | None, typer.Option(help="Memory for keys and values; see docs/serving.md.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    quantization: Annotated[
        str | None, typer.Option(help="int8 or int4: keep weights in so many bits.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(help="CPU threads of the engine; if unset one a core, small models one less."),
    ] = None,
    max_queue: Annotated[
        int, typer.Option(help="Sequences that may wait; more are told 429.")
    ] = 256,
    max_tokens: Annotated[
        int | None, typer.Option(help="The most that one answer may have.")
    ] = None,
    request_timeout: Annotated[
        float, typer.Option(help="Seconds that one request may take.")
    ] = 600.0,
    drain_timeout: Annotated[
        float, typer.Option(help="Seconds that running requests have when told to stop.")
    ] = 30.0,
    log_prompts: Annotated[
        bool, typer.Option("--log-prompts", help="Write prompts to the log.")
    ] = False,
) -> None:
    """Serve a model to OpenAI's clients, and a page at / that shows the loops at work.

    Example: loopcoder serve --model loopcoder-nano --port 8000
    """
    from loopcoder.server.engine_client import EngineError
    from loopcoder.server.run import ModelSettings, serve
    from loopcoder.server.settings import ServerSettings

    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("loopcoder").setLevel(logging.INFO)
    keys = [*(api_key or ()), *_environment_keys()]
    settings = ServerSettings(
        host=host,
        port=port,
        api_keys=tuple(keys),
        served_model_name=served_model_name,
        max_queue=max_queue,
        max_tokens=max_tokens,
        request_timeout=request_timeout,
        drain_timeout=drain_timeout,
        log_prompts=log_prompts,
    )
    chosen = ModelSettings(
        model=model,
        dtype=dtype,
        quantization=quantization,
        device=device,
        max_model_len=max_model_len,
        loops=loops,
        threads=threads,
        engine={
            "max_num_seqs": max_num_seqs,
            "max_num_batched_tokens": max_num_batched_tokens,
            "kv_cache_memory_bytes": kv_cache_memory_bytes,
        },
    )
    try:
        serve(chosen, settings)
    except EngineError as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(1) from error


def _environment_keys() -> list[str]:
    """Keys from the environment, where a process list does not show them."""
    return os.environ.get("LOOPCODER_API_KEY", "").split()
