"""`loopcoder info`: what a model is and costs, without loading it."""

import json
import sys
from typing import Annotated, Any

import typer

from loopcoder.errors import RequestError
from loopcoder.model.config import ModelConfig


def info(
    model: Annotated[
        str, typer.Argument(help="Bundled name, directory, downloaded hub id, or a preset's name.")
    ],
    context: Annotated[int, typer.Option(help="Tokens for which costs are given.")] = 4096,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Shapes, parameters, FLOPs, KV bytes and carried state for each loop count.

    Reads headers only, so any size takes a moment. Example: loopcoder info loopcoder-v2
    """
    if context < 1:
        raise RequestError(f"--context is {context}; it must be at least 1")
    from loopcoder.checkpoint.describe import as_record, describe

    record = as_record(describe(model), context)
    if as_json:
        sys.stdout.write(json.dumps(record, indent=2) + "\n")
    else:
        _print(record)


def _print(record: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(file=sys.stdout, highlight=False)
    shape = Table(title=record["name"], title_justify="left", show_header=False, box=None)
    for label, value in _facts(record):
        shape.add_row(label, value)
    console.print(shape)
    costs = Table(title=f"\nCost with {record['context']} tokens, by loops", title_justify="left")
    costs.add_column("", no_wrap=True)
    for row in record["loops"]:
        own = row["loops"] == record["config"]["plt_num_loops"]
        costs.add_column(f"{row['loops']}{' (own)' if own else ''}", justify="right", no_wrap=True)
    for label, key, unit in _COSTS:
        costs.add_row(label, *(_amount(row[key], unit) for row in record["loops"]))
    console.print(costs)


_COSTS = (
    ("FLOPs, decode a token", "decode_flops_per_token", ""),
    ("FLOPs, prefill by tails", "prefill_flops", ""),
    ("FLOPs, prefill in full", "prefill_flops_full", ""),
    ("FLOPs, train on a token", "training_flops_per_token", ""),
    ("  recomputing activations", "training_flops_per_token_checkpointed", ""),
    ("KV a token", "kv_bytes_per_token", "B"),
    ("KV of later loops", "kv_bytes_later_loops", "B"),
    ("KV of the sequence", "kv_bytes_per_sequence", "B"),
    ("carried state", "carried_state_bytes", "B"),
)


def _facts(record: dict[str, Any]) -> list[tuple[str, str]]:
    config, parts = record["config"], record["parameters"]
    facts = [
        ("layers x width", f"{config['num_hidden_layers']} x {config['hidden_size']}"),
        (
            "attention",
            f"{config['num_attention_heads']} query heads, {config['num_key_value_heads']} "
            f"key/value heads, head dim {config['head_dim']}",
        ),
        ("MLP width", str(config["intermediate_size"])),
        ("vocabulary", f"{config['vocab_size']}, {_head(config)}"),
        ("positions", str(config["max_position_embeddings"])),
        ("loops", f"{config['plt_num_loops']}, window {config['plt_window_size'][0] + 1} keys"),
        (
            "parameters",
            f"{parts['total']:,}, of which embedding {parts['embedding']:,}, "
            f"gates {parts['gates']:,}",
        ),
    ]
    if record["variant"]:
        fields = ModelConfig.from_mapping(config).variant_text
        facts.append(("variant", f"{fields}; not the released architecture"))
    if "files" not in record:
        return [*facts, ("files", f"none; costs are for {record['dtype']}")]
    formats = ", ".join(
        f"{name} {_amount(size, 'B')}" for name, size in record["bytes_by_dtype"].items()
    )
    facts.append(("files", f"{len(record['files'])}: {formats}"))
    if record["quantized_matrices"]:
        kinds = (f"{count} as {kind}" for kind, count in record["quantized_matrices"].items())
        facts.append(("quantised", "matrices: " + ", ".join(kinds)))
    return facts


def _head(config: dict[str, Any]) -> str:
    return "head tied to the embedding" if config["tie_word_embeddings"] else "head of its own"


def _amount(value: int, unit: str) -> str:
    """`value` with three digits and a decimal prefix: 57.3 kB, 7.62 G."""
    scaled, prefixes = float(value), iter(("", "k", "M", "G", "T", "P", "E"))
    prefix = next(prefixes)
    while scaled >= 999.5:
        scaled, prefix = scaled / 1000, next(prefixes)
    digits = 0 if prefix == "" else max(0, 2 - len(str(int(scaled))) + 1)
    return f"{scaled:.{digits}f} {prefix}{unit}".rstrip()
