"""`loopcoder quantize`: a checkpoint with int8 or int4 weights."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from loopcoder.errors import RequestError


def quantize(
    source: Annotated[str, typer.Argument(help="Checkpoint: bundled name, directory or hub id.")],
    directory: Annotated[Path, typer.Argument(help="Directory to make.")],
    bits: Annotated[int, typer.Option(help="Bits of a weight in the layers: 8 or 4.")] = 4,
    group: Annotated[
        int | None, typer.Option(help="Inputs that share a scale: 32, 64, 128; smaller is finer.")
    ] = None,
    shard_size: Annotated[str, typer.Option(help="Largest file; memory grows with it.")] = "2GB",
    force: Annotated[bool, typer.Option("--force", help="Replace a checkpoint.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a checkpoint with quantised weights, which other programs can read too.

    What it costs in quality, `loopcoder perplexity` measures.
    Example: loopcoder quantize loopcoder-nano ./nano-int4 --bits 4
    """
    if bits not in (4, 8):
        raise RequestError(f"--bits is {bits}; it must be 4 or 8")
    from loopcoder.checkpoint.locate import locate
    from loopcoder.checkpoint.quantization import Quantization

    kind = Quantization.of(f"int{bits}", group)
    from loopcoder.checkpoint.quantize import quantize_checkpoint

    quantize_checkpoint(locate(source), directory, kind, shard_size=shard_size, force=force)
    _print_result(directory, as_json)


def _print_result(directory: Path, as_json: bool) -> None:
    from loopcoder.checkpoint.describe import as_record, describe

    record = as_record(describe(str(directory)), context=1)
    kept = ("directory", "files", "bytes", "quantized_matrices")
    if as_json:
        sys.stdout.write(json.dumps({name: record[name] for name in kept}) + "\n")
        return
    kinds = (f"{count} as {kind}" for kind, count in record["quantized_matrices"].items())
    sys.stdout.write(
        f"{directory}: {record['bytes']:,} bytes in {len(record['files'])} file"
        f"{'' if len(record['files']) == 1 else 's'}; matrices: {', '.join(kinds)}\n"
    )
