"""The model that is measured: a checkpoint, or a shape with random weights. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loopcoder.checkpoint.changes import parse_changes, with_changes
from loopcoder.checkpoint.describe import describe
from loopcoder.errors import RequestError
from loopcoder.model import cost
from loopcoder.model.config import ModelConfig

DEFAULT_MODEL = "loopcoder-nano"


@dataclass(frozen=True, kw_only=True)
class Target:
    """`model` None stands for random weights of the shape `config`, made in memory."""

    name: str
    config: ModelConfig
    model: str | None

    def record(self, dtype: str) -> dict[str, Any]:
        """The "model" of `bench --json`."""
        config = self.config
        return {
            "name": self.name,
            "weights": "random" if self.model is None else "checkpoint",
            "dtype": dtype,
            "parameters": cost.parameters(config).total,
            "layers": config.num_hidden_layers,
            "width": config.hidden_size,
            "mlp_width": config.intermediate_size,
            "query_heads": config.num_attention_heads,
            "key_value_heads": config.num_key_value_heads,
            "head_dim": config.head_dim,
            "vocabulary": config.vocab_size,
            "window": config.window,
        }


def find_target(
    model: str | None, like: str | None, layers: int | None, changes: Sequence[str] = ()
) -> Target:
    """What `--model`, or `--like` with `--layers` and `--set`, ask for.

    Raises `RequestError` where they contradict each other, and what `describe` raises.
    """
    if like is None:
        if layers is not None or changes:
            raise RequestError("--layers and --set change a shape with random weights: give --like")
        found = describe(model or DEFAULT_MODEL)
        if found.directory is None:
            raise RequestError(f"{found.name} is a shape without weights: give --like {found.name}")
        return Target(name=found.name, config=found.config, model=str(found.directory))
    if model is not None:
        raise RequestError("give --model or --like, not both")
    asked = parse_changes(changes)
    if layers is not None:
        asked["num_hidden_layers"] = layers
    return Target(name=like, config=with_changes(describe(like).config, asked), model=None)
