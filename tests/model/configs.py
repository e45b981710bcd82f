"""Random small models for comparing implementations: seeded, so every run sees the same ones."""

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopcoder.model.config import ModelConfig
from loopcoder.model.shapes import tensor_shapes

NUM_CASES = 56
MAX_LENGTH = 24

# All architectures beside the released one (SPEC.md section 7, the ablation).
VARIANTS: list[dict[str, Any]] = [
    {"plt_loop_offset": offset, "plt_share_kv": share, "plt_gated_window": gated}
    for offset, share, gated in product((0, 1), (False, True), (False, True))
    if (offset, share, gated) != (1, True, True)
]


def variant_name(variant: dict[str, Any]) -> str:
    """A readable test id: "CLP-own_kv-G_SWA"."""
    return "-".join((
        "CLP" if variant["plt_loop_offset"] else "serial",
        "shared_kv" if variant["plt_share_kv"] else "own_kv",
        "G_SWA" if variant["plt_gated_window"] else "no_window",
    ))  # fmt: skip


Array = NDArray[np.float64]
Weights = dict[str, Array]

_HEADS_AND_GROUPS = ((1, 1), (2, 1), (2, 2), (3, 1), (3, 3), (4, 1), (4, 2), (4, 4), (6, 2), (6, 3))


@dataclass(frozen=True)
class Case:
    """One configuration with a sequence length and the seed of its weights and tokens."""

    seed: int
    config: ModelConfig
    length: int

    @property
    def name(self) -> str:
        """A readable test id: the loops, layers, heads, window and length of this case."""
        c = self.config
        heads = f"{c.num_attention_heads}over{c.num_key_value_heads}"
        gate = "hidden" if c.plt_gate_use_hidden_states else "query"
        window = f"W{c.plt_window_size[0]}"
        shape = f"R{c.plt_num_loops}-L{c.num_hidden_layers}-H{heads}-{window}-T{self.length}"
        return f"{self.seed}-{shape}-{gate}"

    def weights(self) -> Weights:
        """The case's weights; the same at every call."""
        return random_weights(self.config, self.seed)

    def tokens(self) -> list[int]:
        """The case's sequence; the same at every call."""
        return random_tokens(self.config, self.length, self.seed)


def random_cases(count: int = NUM_CASES) -> list[Case]:
    """`count` cases. Options that multiply the paths through a model are walked, not drawn."""
    return [_random_case(seed) for seed in range(count)]


def random_weights(config: ModelConfig, seed: int) -> Weights:
    """Weights under which activations stay around 1 and no norm, bias or gate is trivial."""
    rng = np.random.default_rng([seed, 1])
    shapes = tensor_shapes(config)
    return {name: _random_tensor(rng, name, shape) for name, shape in shapes.items()}


def random_tokens(config: ModelConfig, length: int, seed: int) -> list[int]:
    """Token ids, any of the vocabulary."""
    rng = np.random.default_rng([seed, 2])
    return [int(token) for token in rng.integers(config.vocab_size, size=length)]


def _random_case(seed: int) -> Case:
    rng = np.random.default_rng([seed, 0])
    # The extremes of the length come by hand: chance would mostly miss a lone token.
    length = {0: 1, 1: 2, 2: MAX_LENGTH}.get(seed % 13, int(rng.integers(3, MAX_LENGTH + 1)))
    heads, groups = _HEADS_AND_GROUPS[int(rng.integers(len(_HEADS_AND_GROUPS)))]
    config = ModelConfig(
        vocab_size=int(rng.integers(11, 62)),
        hidden_size=int(rng.integers(8, 49)),
        intermediate_size=int(rng.integers(5, 65)),
        num_hidden_layers=int(rng.integers(1, 5)),
        num_attention_heads=heads,
        num_key_value_heads=groups,
        head_dim=2 * int(rng.integers(1, 9)),
        max_position_embeddings=128,
        rms_norm_eps=float(rng.choice([1e-6, 1e-5, 1e-2])),
        rope_theta=float(rng.choice([10.0, 1e4, 5e5])),
        tie_word_embeddings=bool(rng.integers(2)),
        plt_num_loops=_num_loops(seed),
        plt_window_size=(_keys_before(rng, length), 0),
        plt_emb_scale=_scale(rng, 0.707),
        plt_hidden_scale=_scale(rng, 0.053),
        plt_normalize_per_loop=seed // 2 % 2 == 0,
        plt_gate_use_hidden_states=seed % 2 == 0,
    )
    return Case(seed, config, length)


def _num_loops(seed: int) -> int:
    """R = 1 for one case in seven; the rest are spread over 2, 3 and 4."""
    return 1 if seed % 7 == 6 else 2 + seed % 3


def _keys_before(rng: np.random.Generator, length: int) -> int:
    """The window's left side: self only, short, or anything up to beyond the sequence."""
    kind = int(rng.integers(4))
    if kind == 0:
        return 0
    if kind == 1:
        return min(int(rng.integers(1, 4)), length)
    return int(rng.integers(0, length + 4))


def _scale(rng: np.random.Generator, released: float) -> float | None:
    """Null, the released value, or a draw large enough for the other branch to matter."""
    return (None, released, float(rng.uniform(0.3, 1.2)))[int(rng.integers(3))]


def _random_tensor(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    values = rng.standard_normal(shape)
    if name.endswith("norm.weight"):
        return 1.0 + 0.2 * values
    if name.endswith(("embed_tokens.weight", "plt_gate.bias")):
        return values
    return values / math.sqrt(shape[-1])
