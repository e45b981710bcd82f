"""Everything that can be wrong with a run before it starts is found here."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from loopcoder.checkpoint.config_file import read_config
from loopcoder.errors import ConfigError, DataError
from loopcoder.model.config import ModelConfig
from loopcoder.train.data.shards import TokenShards
from loopcoder.train.heldout import Heldout
from loopcoder.train.recipe import StartFrom, TrainRecipe, shape_record
from loopcoder.train.records import SCHEMA
from loopcoder.train.windows import TrainWindows


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recipe with its data opened and checked against the model's shape."""

    recipe: TrainRecipe
    shape: ModelConfig
    start_from: Path | None
    windows: TrainWindows
    heldout: Heldout
    device: torch.device

    @property
    def shards(self) -> TokenShards:
        """The training split."""
        return self.windows.shards

    def record(self) -> dict[str, Any]:
        """What decides the run's results, as JSON values."""
        return {
            "schema": SCHEMA,
            "recipe": self.recipe.record(),
            "shape": shape_record(self.shape),
            "manifest_hash": self.shards.manifest_hash,
        }


def make_plan(recipe: TrainRecipe, data: Path | None = None) -> Plan:
    """Open and check what `recipe` needs; `data` replaces `data.shards`.

    Raises `ConfigError` or `DataError` naming the field or file.
    """
    folder = _data_folder(recipe, data)
    train, heldout = TokenShards(folder, "train"), TokenShards(folder, "heldout")
    shape, start_from = _model(recipe)
    problem = recipe.loops.problem(shape.plt_num_loops)  # a checkpoint's count is known only now
    if problem is not None:
        raise ConfigError(problem)
    _check_vocabulary(shape, train, exact=start_from is None)
    length = recipe.data.sequence_length
    if length > shape.max_position_embeddings:
        raise ConfigError(
            f"data.sequence_length is {length}, but the model has "
            f"{shape.max_position_embeddings} positions; shorten it or raise "
            "model.max_position_embeddings"
        )
    total = recipe.steps * recipe.batch_windows
    return Plan(
        recipe=recipe,
        shape=shape,
        start_from=start_from,
        windows=TrainWindows(train, length=length, total=total, seed=recipe.data.seed),
        heldout=Heldout(heldout, length=length),
        device=_device(recipe.run.device),
    )


def _data_folder(recipe: TrainRecipe, data: Path | None) -> Path:
    if data is None and recipe.data.shards is None:
        raise ConfigError(
            "data.shards is not set; give --data DIR, a directory that `loopcoder data build` made"
        )
    folder = Path(recipe.data.shards or "") if data is None else data
    if not folder.is_dir():
        raise DataError(
            f"{folder}: there is no such data directory; make it with `loopcoder data build`, "
            "or give --data DIR"
        )
    return folder


def _model(recipe: TrainRecipe) -> tuple[ModelConfig, Path | None]:
    """The shape to train, and the checkpoint it starts from if there is one."""
    if isinstance(recipe.model, StartFrom):
        start_from = Path(recipe.model.start_from)
        return read_config(start_from), start_from
    return ModelConfig(**asdict(recipe.model)), None


def _check_vocabulary(shape: ModelConfig, shards: TokenShards, *, exact: bool) -> None:
    given, expected = shape.vocab_size, shards.vocab_size
    # A checkpoint's embedding may be padded beyond its tokenizer; a new model's has no reason to.
    if given == expected or (given > expected and not exact):
        return
    raise DataError(
        f"{shards.folder}: its tokenizer has {expected} tokens, the model's vocab_size is {given}; "
        f"set model.vocab_size to {expected}, or build the data with the model's tokenizer"
    )


def _device(name: str) -> torch.device:
    cuda = torch.cuda.is_available()
    if name == "cuda" and not cuda:
        raise ConfigError("run.device is cuda, and torch sees no CUDA device; use cpu or auto")
    return torch.device("cuda" if cuda and name != "cpu" else "cpu")
