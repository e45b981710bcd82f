"""What `loopcoder bench serve` prints for people."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from loopcoder.bench.serving.summary import manner

_WIDTH = 140  # of a pipe, which has none of its own
_COLUMNS = (
    ("TTFT ms", "ttft_s", 1e3, 1),
    ("p90", "ttft_p90_s", 1e3, 1),
    ("TPOT ms", "tpot_s", 1e3, 2),
    ("answer ms", "latency_s", 1e3, 0),
    ("tokens/s", "tokens_per_s", 1, 0),
    ("CPU us/token", "processor_s_per_token", 1e6, 0),
    ("answers", "requests", 1, 0),
    ("errors", "errors", 1, 0),
    ("n", "n", 1, 0),
)


def show(result: dict[str, Any]) -> None:
    """Print the object of `bench serve --json`: a table, ratios, starts, and where it was."""
    width = None if sys.stdout.isatty() else _WIDTH
    console = Console(file=sys.stdout, highlight=False, width=width)
    loads = [row for row in result["rows"] if row["measured"] == "serve"]
    table = Table()
    for label in ("case", "clients", "asked for"):
        table.add_column(label, no_wrap=True)
    for label, *_ in _COLUMNS:
        table.add_column(label, justify="right", no_wrap=True)
    for row in (row for row in loads if row["n"]):
        cells = (_cell(row[key], *form) for _, key, *form in _COLUMNS)
        table.add_row(row["case"], str(row["clients"]), manner(row["stream"]), *cells)
    console.print(_title(result, loads[0]), soft_wrap=True)
    console.print(table)
    for row in (row for row in loads if row["skipped"]):
        console.print(f"{row['case']}: skipped: {row['skipped']}", soft_wrap=True)
    if result["ratios"]:
        console.print("ratios of tokens a second:")
    for pair, ratio in result["ratios"].items():
        console.print(f"  {pair}: {ratio:.3f}", soft_wrap=True)
    for row in (row for row in result["rows"] if row["measured"] != "serve"):
        times = f"{row['median_s']:.2f} s, {row['p10_s']:.2f} to {row['p90_s']:.2f}, n {row['n']}"
        console.print(f"start to first token, {row['case']}: {times}", soft_wrap=True)
    console.print(_place(result["machine"]), soft_wrap=True)


def _cell(value: float | None, scale: float, digits: int) -> str:
    return "-" if value is None else f"{value * scale:.{digits}f}"


def _title(result: dict[str, Any], row: dict[str, Any]) -> str:
    model = result["model"]
    size = f"{model['parameters'] / 1e6:.4g} M parameters, {model['layers']} layers"
    load = f"{row['prompt']} tokens in, {row['output']} out"
    return f"serve: {model['name']} ({size}, {model['dtype']}, {model['weights']}); {load}"


def _place(machine: dict[str, Any]) -> str:
    return (
        f"{machine['gpu'] or machine['processor']}, cores: {machine['cores']}, threads of an "
        f"engine: {machine['threads']}; torch {machine['torch']}; client: {machine['client']}, "
        f"one process; {machine['turns']}"
    )
