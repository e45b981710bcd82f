"""What a Parallel Loop Transformer is, as numbers (SPEC.md section 1)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from loopcoder.errors import ConfigError, RequestError

MODEL_TYPE = "iquestpltcoder"
ARCHITECTURE = "IQuestPLTCoderForCausalLM"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape and loop settings of a PLT. Field names are those of the released `config.json`.

    Raises `ConfigError`, naming the field, for a model that cannot exist.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int = 131072
    rms_norm_eps: float = 1e-5
    rope_theta: float = 500000.0
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02
    plt_num_loops: int = 2
    plt_window_size: tuple[int, int] = (64, 0)
    plt_emb_scale: float | None = 0.707
    plt_hidden_scale: float | None = 0.053
    plt_normalize_per_loop: bool = True
    plt_gate_use_hidden_states: bool = True

    def __post_init__(self) -> None:
        """Check every field; JSON gives the window as a list, so it is made a tuple here."""
        if isinstance(self.plt_window_size, list):
            object.__setattr__(self, "plt_window_size", tuple(self.plt_window_size))
        _check_counts(self)
        _check_heads(self)
        _check_window(self.plt_window_size)

    @property
    def window(self) -> int:
        """W: keys a local query sees, itself among them (SPEC.md section 1)."""
        return self.plt_window_size[0] + 1

    @property
    def emb_scale(self) -> float:
        """`a` of x^r = a E + b h; null in the file means 1."""
        return 1.0 if self.plt_emb_scale is None else self.plt_emb_scale

    @property
    def hidden_scale(self) -> float:
        """`b` of x^r = a E + b h; null in the file means 1."""
        return 1.0 if self.plt_hidden_scale is None else self.plt_hidden_scale

    def check_loops(self, loops: int | None) -> int:
        """The loop count to run. Raises `RequestError` for one that this model cannot run."""
        own = self.plt_num_loops
        if loops is None:
            return own
        if loops < 1 or (loops > 1 and own == 1):
            raise RequestError(
                f"loops is {loops}; this model can run "
                + ("1 loop only, as it has no gates" if own == 1 else "1 or more loops")
            )
        return loops

    def with_(self, **changes: Any) -> Self:
        """A copy with some fields changed, checked again."""
        return replace(self, **changes)

    @classmethod
    def field_names(cls) -> frozenset[str]:
        """The names that this class reads of a `config.json`."""
        return frozenset(field.name for field in fields(cls))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Build from the fields of `values` that this class knows; the rest belongs to others."""
        known = {name: values[name] for name in cls.field_names() if name in values}
        try:
            return cls(**known)
        except TypeError as error:
            raise ConfigError(f"config: {error}; see `loopcoder info loopcoder-nano`") from error


def _check_counts(config: ModelConfig) -> None:
    for name in (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "max_position_embeddings",
        "plt_num_loops",
    ):
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"{name} is {value!r}; it must be a whole number, at least 1")
    for name in ("rms_norm_eps", "rope_theta"):
        value = getattr(config, name)
        if not isinstance(value, int | float) or not value > 0:
            raise ConfigError(f"{name} is {value!r}; it must be a positive number")
    for name in ("plt_emb_scale", "plt_hidden_scale"):
        value = getattr(config, name)
        if value is not None and not isinstance(value, int | float):
            raise ConfigError(f"{name} is {value!r}; it must be a number or null (meaning 1)")


def _check_heads(config: ModelConfig) -> None:
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    if heads % groups:
        raise ConfigError(
            f"num_attention_heads is {heads} and num_key_value_heads {groups}; "
            "the first must be a multiple of the second"
        )
    if config.head_dim % 2:
        raise ConfigError(f"head_dim is {config.head_dim}; RoPE rotates pairs, so it must be even")


def _check_window(window: tuple[int, ...]) -> None:
    expected = "it must be [keys before the query, 0], for example [64, 0]"
    if not isinstance(window, tuple):
        raise ConfigError(f"plt_window_size is {window!r}; {expected}")
    if len(window) != 2 or not all(isinstance(side, int) for side in window) or window[0] < 0:
        raise ConfigError(f"plt_window_size is {list(window)}; {expected}")
    if window[1] != 0:
        raise ConfigError(
            f"plt_window_size is {list(window)}: the second number lets a query see later "
            f"tokens, and the model is causal; {expected}"
        )
