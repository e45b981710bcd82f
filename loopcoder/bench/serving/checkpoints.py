"""The directories that are served: a PLT's, and that of the dense Llama of its shape."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loopcoder.bench.peers.dense import llama_config
from loopcoder.bench.process import WorkerError
from loopcoder.bench.target import DEFAULT_MODEL, Target
from loopcoder.checkpoint.config_file import CONFIG_FILE, config_json, write_json
from loopcoder.checkpoint.locate import locate
from loopcoder.errors import RequestError

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def served_checkpoint(target: Target, scratch: Path) -> Path:
    """The checkpoint itself, or random weights of its shape, written to `scratch`.

    A shape without a tokenizer takes that of the bundled model, whose ids must be in its
    vocabulary. Raises `RequestError` where there is none to take.
    """
    if target.model is not None:
        directory = Path(target.model).absolute()
        if not (directory / _TOKENIZER[0]).exists():
            raise RequestError(f"{target.name} has no tokenizer.json, which the load is made with")
        return directory
    directory, shape = scratch / "plt", scratch / "shape.json"
    write_json(shape, config_json(target.config, dtype="bfloat16"))
    command = [sys.executable, "-m", "loopcoder", "init", str(directory), "--config", str(shape)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WorkerError(f"the checkpoint cannot be written: {done.stderr.strip()}")
    bundled = locate(DEFAULT_MODEL)
    for name in _TOKENIZER:
        (directory / name).symlink_to(bundled / name)
    return directory


def dense_checkpoint(directory: Path, target: Target, scratch: Path) -> Path:
    """A Llama of the same shape: the same files behind another `config.json`.

    The PLT's tensors have Llama's names; its gates are read by nobody. No end token, so that a
    server which knows no `ignore_eos` writes to the limit as well.
    """
    dense = scratch / "dense"
    dense.mkdir()
    for path in directory.iterdir():
        if (
            path.suffix == ".safetensors"
            or path.name.endswith(".safetensors.index.json")
            or (path.name in _TOKENIZER)
        ):
            (dense / path.name).symlink_to(path)
    job: dict[str, Any] = {"config": asdict(target.config), "positions": 0}
    write_json(dense / CONFIG_FILE, llama_config(job))
    return dense


def checkpoint_bytes(directory: Path) -> int:
    """Bytes of its weights."""
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))
