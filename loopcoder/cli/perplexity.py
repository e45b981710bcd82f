"""`loopcoder perplexity`: how well a model predicts text, and what quantisation costs it."""

import argparse
import ast
import heapq
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loopcoder.errors import RequestError

if TYPE_CHECKING:
    from loopcoder.checkpoint.quantization import Quantization

AS_SAVED = "none"
FEW_ROWS = 4  # two sequences of two loops


def perplexity(
    model: Annotated[str, typer.Argument(help="Bundled name, directory or hub id.")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Text files; without any, Python's own argparse, ast and heapq."),
    ] = None,
    quantization: Annotated[
        str, typer.Option(help="Forms to compare: none, int8, int4. The first is the base.")
    ] = AS_SAVED,
    group: Annotated[
        str | None, typer.Option(help="Group sizes to compare, such as 32,64,128.")
    ] = None,
    length: Annotated[int, typer.Option(help="Tokens of a window.")] = 512,
    limit: Annotated[
        int | None, typer.Option(help="Windows to score, spread evenly; all if not given.")
    ] = None,
    few_rows: Annotated[
        bool, typer.Option("--few-rows", help="Multiply as decoding does, 4 rows at once; slow.")
    ] = False,
    loops: Annotated[int | None, typer.Option(help="Loop count; the model's own if unset.")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; torch's choice if unset.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Bits per byte and perplexity of text, for one or more quantised forms of a model.

    Example: loopcoder perplexity loopcoder-nano notes.txt --quantization none,int8,int4
    """
    forms = _forms(quantization, group)
    if length < 2 or (limit is not None and limit < 1):
        raise RequestError(f"--length is {length} and --limit {limit}; at least 2 and 1 are needed")
    import torch

    from loopcoder.checkpoint.locate import locate
    from loopcoder.checkpoint.tokenizer import load_tokenizer
    from loopcoder.train.text_score import read_windows, score_form

    if threads is not None:
        torch.set_num_threads(threads)
    directory = locate(model)
    tokenizer = load_tokenizer(directory)
    if tokenizer is None:
        raise RequestError(f"{directory} has no tokenizer, so text cannot be read")
    windows = read_windows(tokenizer, files or _python_sources(), length=length, limit=limit)
    few = FEW_ROWS if few_rows else None
    rows: list[dict[str, Any]] = []
    for form in forms:
        print(f"scoring {form or 'the model as it is saved'}", file=sys.stderr)
        row = score_form(directory, form, windows, dtype=dtype, loops=loops, few_rows=few)
        base = rows[0] if rows else row
        change = 100 * (row["bits_per_byte"] / base["bits_per_byte"] - 1)
        rows.append({**row, "change_percent": change})
    if as_json:
        counts = {"windows": len(windows), "length": length, "few_rows": few_rows}
        sys.stdout.write(json.dumps({"model": model, **counts, "rows": rows}, indent=2) + "\n")
    else:
        _print(rows)


def _python_sources() -> list[Path]:
    """Text that every machine has, so that a measurement can be made again anywhere."""
    return [Path(str(module.__file__)) for module in (argparse, ast, heapq)]


def _forms(quantization: str, group: str | None) -> "list[Quantization | None]":
    """What to score, in order; None is the model as it is saved."""
    from loopcoder.checkpoint.quantization import Quantization

    sizes: list[int | None] = [None]
    if group is not None:
        try:
            sizes = [int(size) for size in group.split(",")]
        except ValueError as error:
            raise RequestError(f"--group is {group!r}; give numbers, such as 32,64,128") from error
    forms: list[Quantization | None] = []
    for kind in quantization.split(","):
        forms += [None] if kind == AS_SAVED else [Quantization.of(kind, size) for size in sizes]
    return forms


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{rows[0]['tokens']:,} tokens, {rows[0]['bytes']:,} bytes of text")
    for label in ("weights", "group", "matrices", "bits/byte", "perplexity", "change"):
        table.add_column(label, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["quantization"] or "as saved",
            str(row["group"] or ""),
            f"{row['matrix_bytes'] / 1e6:.1f} MB",
            f"{row['bits_per_byte']:.4f}",
            f"{row['perplexity']:.3f}",
            f"{row['change_percent']:+.2f} %",
        )
    Console(file=sys.stdout, highlight=False).print(table)
