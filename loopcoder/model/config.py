"""What a Parallel Loop Transformer is, as numbers (SPEC.md section 1)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from loopcoder.errors import ConfigError, RequestError

MODEL_TYPE = "iquestpltcoder"
ARCHITECTURE = "IQuestPLTCoderForCausalLM"


# How later loops read the loop before: the rows of SPEC.md section 7's ablation of PLT.
VARIANT_FIELDS = ("plt_loop_offset", "plt_share_kv", "plt_gated_window")


@dataclass(frozen=True, kw_only=True, repr=False)
class ModelConfig:
    """Shape and loop settings of a PLT. Field names are those of the released `config.json`.

    The last three are not in it: at their defaults they are the released architecture.
    `plt_loop_offset` 1 hands h^{r-1}_{t-1} to loop r (CLP), 0 hands h^{r-1}_t, which makes the
    loops serial. `plt_share_kv` lets later loops' global attention read loop 1's keys and values;
    without it each loop reads its own. `plt_gated_window` mixes in the window of own keys (G-SWA);
    without it there are neither gates nor local attention.

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
    plt_loop_offset: int = 1
    plt_share_kv: bool = True
    plt_gated_window: bool = True

    def __post_init__(self) -> None:
        """Check every field; JSON gives the window as a list, so it is made a tuple here."""
        if isinstance(self.plt_window_size, list):
            object.__setattr__(self, "plt_window_size", tuple(self.plt_window_size))
        _check_counts(self)
        _check_heads(self)
        _check_window(self.plt_window_size)
        _check_variant(self)

    def __repr__(self) -> str:
        """As a dataclass's, of the fields of `to_mapping`: what hashes of models are made of."""
        values = ", ".join(f"{name}={value!r}" for name, value in self.to_mapping().items())
        return f"{type(self).__qualname__}({values})"

    @property
    def variant(self) -> dict[str, Any]:
        """The fields that set this model apart from the released architecture, {} for none.

        One loop has no later loops, so nothing about them sets it apart.
        """
        return {} if self.plt_num_loops == 1 else self._varied()

    @property
    def variant_text(self) -> str:
        """`variant` for a reader: "plt_loop_offset 0, plt_share_kv false"."""
        return ", ".join(f"{name} {json.dumps(value)}" for name, value in self.variant.items())

    @property
    def has_gates(self) -> bool:
        """Whether layers hold a gate: later loops do, where they have a window of their own."""
        return self.plt_num_loops > 1 and self.plt_gated_window

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

    def to_mapping(self) -> dict[str, Any]:
        """All fields by name, as `from_mapping` reads them.

        Those of variants are there only where they differ, so that what is written of the released
        architecture does not change.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in VARIANT_FIELDS:
            del values[name]
        return values | self._varied()

    def _varied(self) -> dict[str, Any]:
        defaults = type(self)
        return {
            name: getattr(self, name)
            for name in VARIANT_FIELDS
            if getattr(self, name) != getattr(defaults, name)
        }

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


def _check_variant(config: ModelConfig) -> None:
    offset = config.plt_loop_offset
    if not isinstance(offset, int) or isinstance(offset, bool) or offset not in (0, 1):
        raise ConfigError(
            f"plt_loop_offset is {offset!r}; it must be 1, the state one token back, or 0, that of "
            "the token itself"
        )
    for name in ("plt_share_kv", "plt_gated_window"):
        if not isinstance(value := getattr(config, name), bool):
            raise ConfigError(f"{name} is {value!r}; it must be true or false")
