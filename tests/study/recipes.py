"""A study that takes seconds, and what tests ask of one."""

import json
from pathlib import Path
from typing import Any

from loopcoder.study.recipe import PAGE, StudyRecipe
from loopcoder.study.run import StudyResult, run_study
from loopcoder.train.settings import check, override

TINY: dict[str, Any] = {
    "name": "tiny",
    "study": {"loops": [1, 2], "seeds": [0, 1]},
    "depth": {"tasks": ["brackets"], "hops": 2, "tokens": 4000, "heldout": 40},
    "evaluate": {"hops": [1, 2, 3], "questions": 5},
    "train": {
        "model": {
            "vocab_size": 265,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "max_position_embeddings": 64,
            "plt_window_size": [4, 0],
        },
        "data": {"sequence_length": 32},
        "run": {
            "steps": 4,
            "batch_tokens": 128,
            "micro_batch": 4,
            "bf16": False,
            "threads": 1,
            "device": "cpu",
            "eval_every": 2,
            "save_every": 2,
            "final_dtype": "float32",
            "final_eval_windows": 8,
            "tensorboard": False,
        },
    },
}


def tiny(*assignments: str, **tables: Any) -> StudyRecipe:
    """The tiny study with whole tables replaced (None: left out), then fields."""
    values = {name: value for name, value in {**TINY, **tables}.items() if value is not None}
    return check(StudyRecipe, override(values, assignments), "tiny.toml", PAGE)


def run(study: StudyRecipe, out: Path, *, processes: int = 1, **options: Any) -> StudyResult:
    """Run a study whose paths are relative to `out`'s folder."""
    return run_study(study, out.parent, out, processes=processes, say=lambda line: None, **options)


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a record file, as JSON."""
    return [json.loads(line) for line in path.read_text().splitlines()]
