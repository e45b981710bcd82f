"""`loopcoder convert`: a Llama-family checkpoint made a Parallel Loop Transformer."""

from pathlib import Path
from typing import Annotated

import typer

from loopcoder.cli.init import print_result


def convert(
    source: Annotated[Path, typer.Argument(help="Checkpoint directory or .gguf file.")],
    directory: Annotated[Path, typer.Argument(help="Directory to make.")],
    loops: Annotated[int, typer.Option(help="Loop count; 1 is the same model, exactly.")] = 1,
    dtype: Annotated[
        str | None, typer.Option(help="bf16, f32, ..; the source's own if not given.")
    ] = None,
    gate_bias: Annotated[
        float | None,
        typer.Option(help="Start of later loops: 0 half global, 4 98 %. Default: almost all."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Set a field: plt_hidden_scale=0.1.")
    ] = None,
    shard_size: Annotated[str, typer.Option(help="Largest file; memory grows with it.")] = "2GB",
    force: Annotated[bool, typer.Option("--force", help="Replace a checkpoint.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make a checkpoint of a Llama or Mistral model, from a directory or a GGUF file.

    More loops start almost at the same model; what they are good for, training has to find.
    Example: loopcoder convert SmolLM2-135M-Instruct.gguf ./smollm2
    """
    from loopcoder.checkpoint.changes import parse_changes
    from loopcoder.checkpoint.convert import convert as convert_model

    convert_model(
        source,
        directory,
        loops=loops,
        dtype=dtype,
        gate_bias=gate_bias,
        changes=parse_changes(set_ or ()),
        shard_size=shard_size,
        force=force,
    )
    print_result(directory, as_json)
