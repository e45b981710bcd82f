"""`loopcoder init`: a random checkpoint of a given shape."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from loopcoder.errors import RequestError


def init(
    directory: Annotated[Path, typer.Argument(help="Directory to make.")],
    like: Annotated[
        str | None, typer.Option(help="A preset's name, or a checkpoint whose shape to take.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A config.json whose shape to take.")] = None,
    dtype: Annotated[str, typer.Option(help="bf16, f32, f16 or f64.")] = "bf16",
    shard_size: Annotated[str, typer.Option(help="Largest file; memory grows with it.")] = "2GB",
    seed: Annotated[int, typer.Option(help="The same seed gives the same weights.")] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a field: plt_num_loops=4.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a checkpoint.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a checkpoint with random weights, in shards and a stream, for any size of model.

    Example: loopcoder init ./plt --like loopcoder-v2 --set num_hidden_layers=2
    """
    if (like is None) == (config is None):
        raise RequestError("give --like NAME or --config FILE, one of them")
    from loopcoder.checkpoint.changes import parse_changes, with_changes
    from loopcoder.checkpoint.config_file import parse_config, read_json
    from loopcoder.checkpoint.describe import describe
    from loopcoder.checkpoint.init import init_checkpoint

    if config is not None:
        base, source = parse_config(read_json(config), str(config)), None
    else:
        model = describe(str(like))
        base, source = model.config, model.directory
    shape = with_changes(base, parse_changes(set_ or ()))
    if shape.vocab_size != base.vocab_size:
        source = None  # its tokenizer would not fit
    init_checkpoint(
        directory,
        shape,
        dtype=dtype,
        shard_size=shard_size,
        seed=seed,
        source=source,
        force=force,
    )
    print_result(directory, as_json)


def print_result(directory: Path, as_json: bool) -> None:
    """Say what was written: the directory, its files, parameters and bytes."""
    from loopcoder.checkpoint.header import open_checkpoint

    header = open_checkpoint(directory)
    count = sum(info.size for info in header.tensors.values())
    record: dict[str, Any] = {
        "directory": str(directory),
        "files": [path.name for path in header.files],
        "parameters": count,
        "bytes": header.nbytes,
    }
    text = f"{directory}: {count:,} parameters, {header.nbytes:,} bytes in {len(header.files)} file"
    plural = "" if len(header.files) == 1 else "s"
    sys.stdout.write(json.dumps(record) + "\n" if as_json else f"{text}{plural}\n")
