"""Which model this is: one hash of its files, and one of its shape without the loops."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from loopcoder.checkpoint.config_file import CONFIG_FILE
from loopcoder.checkpoint.header import open_checkpoint
from loopcoder.model.config import ModelConfig

_DIGITS = 16


def checkpoint_hash(directory: Path | str) -> str:
    """sha256 of `config.json` and the weight files, the first 16 hexadecimal digits.

    Reads every byte: a second for each GB or so. Raises `CheckpointError` as `open_checkpoint`.
    """
    directory = Path(directory)
    digest = hashlib.sha256((directory / CONFIG_FILE).read_bytes())
    for path in open_checkpoint(directory).files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:_DIGITS]


def architecture_hash(config: ModelConfig) -> str:
    """The same for all models that differ in nothing but how they loop (and how they began)."""
    shape = {name: value for name, value in asdict(config).items() if not name.startswith("plt_")}
    del shape["initializer_range"]
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:_DIGITS]
