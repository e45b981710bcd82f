"""The end of a run: its model as a checkpoint directory, and its summary."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from loopcoder.checkpoint.save import companions_of, save_model
from loopcoder.checkpoint.staging import staged_directory
from loopcoder.records import machine
from loopcoder.train.heldout import HeldoutScore
from loopcoder.train.plan import Plan
from loopcoder.train.records import METRICS_FILE, device_name, read_metrics, versions


def write_model(model: nn.Module, plan: Plan, directory: Path, dtype: torch.dtype) -> None:
    """Write weights, configuration and tokenizer to a directory that appears at once.

    Raises `CheckpointError` if it cannot be written.
    """
    state: dict[str, Tensor] = {
        name: value.detach().to(device="cpu", dtype=dtype)
        for name, value in model.state_dict().items()
    }
    tokens = {"bos_token_id": plan.shards.bos_id, "eos_token_id": plan.shards.eos_id}
    with staged_directory(directory, force=True) as staging:
        save_model(state, plan.shape, staging, source=plan.start_from, extra=tokens)
        companions_of(plan.shards.tokenizer_dir)(staging)


def summary(
    plan: Plan,
    out: Path,
    *,
    step: int,
    seconds: float,
    parameters: int,
    heldout: HeldoutScore,
    by_loops: Mapping[int, HeldoutScore],
) -> dict[str, Any]:
    """The numbers of a finished run and all they depend on.

    `by_loops` are the scores at each loop count of a run that trained several.
    """
    rows = [row for row in read_metrics(out / METRICS_FILE) if row["kind"] == "train"]
    tokens = step * plan.recipe.run.batch_tokens
    return {
        **plan.record(),
        "finished": step >= plan.recipe.steps,
        "steps": step,
        "tokens": tokens,
        "epochs": tokens / plan.recipe.data.sequence_length / plan.windows.windows,
        "wall_s": round(seconds, 3),
        "parameters": parameters,
        "loss": rows[-1]["loss"] if rows else None,
        "heldout": heldout.record(),
        "bits_per_byte": heldout.bits_per_byte,
        **({"heldout_by_loops": _by_loops(by_loops)} if by_loops else {}),
        "device": device_name(plan.device),
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "final": str(out / "final"),
    }


def _by_loops(scores: Mapping[int, HeldoutScore]) -> dict[str, dict[str, float]]:
    return {
        str(loops): {**score.record(), "bits_per_byte": score.bits_per_byte}
        for loops, score in scores.items()
    }
