"""What `loopcoder bench` prints for people."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

_WIDTH = 132  # of a pipe, which has none of its own

_TIMED = (
    ("median ms", "median_s", 1e3, 2),
    ("p10", "p10_s", 1e3, 2),
    ("p90", "p90_s", 1e3, 2),
    ("tokens/s", "tokens_per_s", 1, 1),
    ("weights GB/s", "weight_bytes_per_s", 1e-9, 2),
    ("of plain read", "over_plain_read", 1, 3),
    ("n", "n", 1, 0),
)
_MEMORY = (
    ("KV in use MB", "kv_in_use", 1e-6, 3),
    ("formula", "kv_formula", 1e-6, 3),
    ("reserved", "kv_reserved", 1e-6, 3),
    ("loop 1", "loop1_pages", 1e-6, 3),
    ("windows", "ring_pages", 1e-6, 3),
    ("formula", "ring_formula", 1e-6, 3),
    ("carried kB", "carried", 1e-3, 2),
    ("formula", "carried_formula", 1e-3, 2),
)
_OVERHEAD = (
    ("step ms", "step_s", 1e3, 3),
    ("model", "model_s", 1e3, 3),
    ("overhead", "overhead_s", 1e3, 3),
    ("p10", "overhead_p10_s", 1e3, 3),
    ("p90", "overhead_p90_s", 1e3, 3),
    ("n", "n", 1, 0),
)
_COLUMNS = {"memory": _MEMORY, "overhead": _OVERHEAD}
_RATIOS = {"memory": "KV bytes in use", "throughput": "tokens a second"}


def show(result: dict[str, Any]) -> None:
    """Print the object of `bench --json` as a table, its ratios and where it was measured."""
    kind = result["rows"][0]["measured"]
    columns = [
        column
        for column in _COLUMNS.get(kind, _TIMED)
        if any(row.get(column[1]) is not None for row in result["rows"])
    ]
    table = Table()
    table.add_column("case", no_wrap=True)
    for label, *_ in columns:
        table.add_column(label, justify="right", no_wrap=True)
    for row in result["rows"]:
        table.add_row(row["case"], *(_cell(row.get(key), *form) for _, key, *form in columns))
    console = Console(
        file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else _WIDTH
    )
    console.print(_title(result), soft_wrap=True)
    console.print(table)
    for row in result["rows"]:
        if row.get("skipped"):
            console.print(f"{row['case']}: skipped: {row['skipped']}", soft_wrap=True)
    if result["ratios"]:
        console.print(f"ratios of {_RATIOS.get(kind, 'seconds')}:")
    for pair, ratio in result["ratios"].items():
        console.print(f"  {pair}: {ratio:.3f}", soft_wrap=True)
    console.print(_place(result), soft_wrap=True)


def _cell(value: float | None, scale: float, digits: int) -> str:
    return "-" if value is None else f"{value * scale:.{digits}f}"


def _title(result: dict[str, Any]) -> str:
    model, measured = result["model"], result["rows"][0]["measured"]
    size = f"{model['parameters'] / 1e6:.4g} M parameters, {model['layers']} layers"
    return f"{measured}: {model['name']} ({size}, {model['dtype']}, {model['weights']})"


def _place(result: dict[str, Any]) -> str:
    machine = result["machine"]
    words = [
        f"{machine['gpu'] or machine['processor']}, threads: {machine['threads']}",
        f"torch {machine['torch']}",
        *(f"{key}: {', '.join(names)}" for key, names in machine["kernels"].items()),
    ]
    if rate := machine.get("plain_read_bytes_per_s"):
        words.append(f"plain read {rate / 1e9:.1f} GB/s")
    return "; ".join([*words, *([machine["turns"]] if "turns" in machine else [])])
