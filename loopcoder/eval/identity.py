"""Whose scores these are: a checkpoint's hash, or the name of a model behind an endpoint."""

import sys
from datetime import UTC, datetime
from importlib.metadata import version

from loopcoder.records import machine
from loopcoder.records.rows import DataIdentity, ModelIdentity, Source

KEY_OPTION = "--api-key"


def local_identity(model: str, *, dtype: str, quantization: str | None) -> ModelIdentity:
    """A checkpoint's identity, from its files. Raises as `locate` and `open_checkpoint` do."""
    from loopcoder.checkpoint.config_file import read_config, read_config_json
    from loopcoder.checkpoint.header import open_checkpoint
    from loopcoder.checkpoint.identity import checkpoint_hash
    from loopcoder.checkpoint.load import auto_dtype
    from loopcoder.checkpoint.locate import locate
    from loopcoder.probes.identity import model_identity

    directory = locate(model)
    if dtype == "auto":
        stored = auto_dtype(open_checkpoint(directory), read_config_json(directory))
        dtype = str(stored).removeprefix("torch.")
    return model_identity(
        read_config(directory),
        name=model,
        model_hash=checkpoint_hash(directory),
        dtype=quantization or dtype,
    )


def source(
    model: ModelIdentity | None, data: DataIdentity | None, *, seed: int | None, threads: int | None
) -> Source:
    """Where the rows of this process come from."""
    return Source(
        command=" ".join(["loopcoder", *_without_key(sys.argv[1:])]),
        version=version("loopcoder"),
        model=model,
        data=data,
        seed=seed,
        machine={**machine(), "threads": threads},
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _without_key(words: list[str]) -> list[str]:
    """The command's words, as they may be written: a key is nobody else's business."""
    shown, hide = [], False
    for word in words:
        name, equals, _ = word.partition("=")
        shown.append("***" if hide else f"{name}=***" if equals and name == KEY_OPTION else word)
        hide = word == KEY_OPTION
    return shown
