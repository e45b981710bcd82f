"""Small token shards in the format of `loopcoder data build`, and a recipe that fits them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from loopcoder.train.recipe import PAGE, TrainRecipe
from loopcoder.train.settings import check, override

VOCAB, BOS, EOS = 64, 1, 2


def write_shards(
    folder: Path,
    *,
    train: int = 6000,
    heldout: int = 1500,
    seed: int = 0,
    answers: dict[str, Any] | None = None,
) -> Path:
    """Documents of a repeating pattern, so that a tiny model learns something in a few steps."""
    generator = np.random.default_rng(seed)
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    table = np.ones(VOCAB, dtype=np.int32) * 2
    table[:3] = 0
    np.save(folder / "token_bytes.npy", table)
    splits = {}
    for split, tokens in (("train", train), ("heldout", heldout)):
        stream = _stream(generator, tokens)
        half = tokens // 2
        shards = []
        for index, part in enumerate((stream[:half], stream[half:])):
            name = f"{split}-{index:05}.npy"
            np.save(folder / name, part)
            shards.append({"file": name, "tokens": len(part)})
        documents = int((stream == BOS).sum())
        splits[split] = {"tokens": tokens, "documents": documents, "shards": shards}
    _write_manifest(folder, splits, {} if answers is None else {"answers": answers})
    return folder


def _stream(generator: np.random.Generator, tokens: int) -> np.ndarray[Any, Any]:
    pieces: list[np.ndarray[Any, Any]] = []
    while sum(map(len, pieces)) < tokens:
        start, length = generator.integers(3, VOCAB), int(generator.integers(5, 60))
        body = 3 + (start + 7 * np.arange(length)) % (VOCAB - 3)
        pieces.append(np.concatenate([[BOS], body, [EOS]]))
    return np.concatenate(pieces)[:tokens].astype(np.uint16)


def _write_manifest(folder: Path, splits: dict[str, Any], more: dict[str, Any]) -> None:
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    tokenizer = {"vocab_size": VOCAB, "bos_id": BOS, "eos_id": EOS, "pad_id": 0}
    manifest = {"files": files, "splits": splits, "tokenizer": tokenizer, **more}
    (folder / "manifest.json").write_text(json.dumps(manifest))


TINY: dict[str, Any] = {
    "name": "tiny",
    "model": {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
        "plt_num_loops": 2,
        "plt_window_size": [8, 0],
    },
    "data": {"sequence_length": 48},
    "optim": {"peak_lr": 0.01},
    "run": {
        "steps": 12,
        "batch_tokens": 384,
        "micro_batch": 4,
        "device": "cpu",
        "bf16": False,
        "threads": 1,
        "log_every": 1,
        "eval_every": 6,
        "save_every": 4,
        "keep": 2,
        "eval_windows": 8,
        "final_dtype": "float32",
        "tensorboard": False,
    },
}


def tiny_recipe(*assignments: str) -> TrainRecipe:
    """The tiny recipe with `section.key=value` overrides."""
    return check(TrainRecipe, override(TINY, assignments), "tiny.toml", PAGE)
