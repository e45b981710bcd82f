"""The model of SPEC.md section 1, spelled out one token, one head and one loop at a time.

Plain loops over NumPy float64 and one sequence: slow, and written to be read beside the
specification. It shares no code with the package, so a mistake in one shows against the other.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = Mapping[str, Array]
Vectors = list[Array]  # one vector per token, or one per head


class Config(Protocol):
    """The fields read of a model configuration."""

    num_hidden_layers: Any
    num_attention_heads: Any
    num_key_value_heads: Any
    head_dim: Any
    rms_norm_eps: Any
    rope_theta: Any
    tie_word_embeddings: Any
    plt_num_loops: Any
    plt_window_size: Any
    plt_emb_scale: Any
    plt_hidden_scale: Any
    plt_normalize_per_loop: Any
    plt_gate_use_hidden_states: Any
    plt_loop_offset: Any
    plt_share_kv: Any
    plt_gated_window: Any


@dataclass(frozen=True, kw_only=True)
class Conventions:
    """The choices that sources disagree on. The defaults are SPEC.md; tests bend one at a time."""

    keys_beside_window: int = 1  # self, on top of plt_window_size[0]
    gate_on_global: bool = True
    gate_reads_residual: bool = True  # False: it reads input_layernorm(residual)
    query_gate_after_rope: bool = True
    further_back: int = 0  # tokens before the one that plt_loop_offset names
    later_rope_offset: int = 0  # added to the RoPE position in loops r >= 2


SPEC = Conventions()


@dataclass(frozen=True)
class Result:
    """What one sequence gives; lists over loops hold loop r at index r - 1."""

    logits: Array  # [T, V]
    inputs: list[Array]  # x^r [T, D] as it enters the first layer
    raw: list[Array]  # u^r [T, D], before the final norm
    states: list[Array]  # h^r [T, D], after it


@dataclass(frozen=True)
class KeysValues:
    """One layer's keys and values in one loop: `keys[t][g]` of key/value head g at token t."""

    keys: list[Vectors]
    values: list[Vectors]


def reference_forward(
    weights: Weights,
    config: Config,
    token_ids: Sequence[int],
    num_loops: int | None = None,
    conventions: Conventions = SPEC,
) -> Result:
    """Run one sequence through all loops."""
    R = config.plt_num_loops if num_loops is None else num_loops
    E: Vectors = [weights["model.embed_tokens.weight"][token] for token in token_ids]
    loop_one: list[KeysValues] = []  # K^1, V^1 of every layer
    inputs: list[Vectors] = []
    u: list[Vectors] = []
    h: list[Vectors] = []

    for r in range(1, R + 1):
        if r == 1:
            x = E
        else:
            handed_on = h[-1] if config.plt_normalize_per_loop else u[-1]
            x = later_loop_input(config, E, handed_on, conventions)
        inputs.append(x)
        for index in range(config.num_hidden_layers):
            layer = _Layer(weights, config, f"model.layers.{index}.", conventions)
            if r == 1:
                x, own = layer.first_loop(x)
                loop_one.append(own)
            else:
                x = layer.later_loop(x, loop_one[index])
        u.append(x)
        h.append([rms_norm(u_t, weights["model.norm.weight"], config.rms_norm_eps) for u_t in x])

    head_name = "model.embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"
    logits = [weights[head_name] @ h_t for h_t in h[-1]]
    return Result(np.array(logits), _arrays(inputs), _arrays(u), _arrays(h))


def later_loop_input(
    config: Config, E: Vectors, previous: Vectors, conventions: Conventions = SPEC
) -> Vectors:
    """x^r_t = a E_t + b h^{r-1}_{t-1}, with h_{-1} = 0; h^{r-1}_t where loops are serial."""
    a = 1.0 if config.plt_emb_scale is None else config.plt_emb_scale
    b = 1.0 if config.plt_hidden_scale is None else config.plt_hidden_scale
    x = []
    for t in range(len(E)):
        source = t - config.plt_loop_offset - conventions.further_back
        h_before = previous[source] if source >= 0 else np.zeros_like(E[t])
        x.append(a * E[t] + b * h_before)
    return x


@dataclass(frozen=True)
class _Layer:
    weights: Weights
    config: Config
    prefix: str
    conventions: Conventions

    def first_loop(self, x: Vectors) -> tuple[Vectors, KeysValues]:
        """Loop 1: full causal attention; also returns K^1, V^1."""
        own = self._keys_values(x, rope_offset=0)
        outputs = []
        for t in range(len(x)):
            q = self._queries(x[t], position=t)
            heads = []
            for head in range(self.config.num_attention_heads):
                heads.append(self._attend(q[head], own, head, first=0, last=t))
            outputs.append(self._finish(x[t], heads))
        return outputs, own

    def later_loop(self, x: Vectors, loop_one: KeysValues) -> Vectors:
        """Loop r >= 2: gated mix of global attention to loop 1 and local attention to itself.

        Variants read the whole of their own keys and values, or have no local attention.
        """
        offset = self.conventions.later_rope_offset
        own = self._keys_values(x, offset)
        whole = loop_one if self.config.plt_share_kv else own
        window = self.config.plt_window_size[0] + self.conventions.keys_beside_window
        outputs = []
        for t in range(len(x)):
            q = self._queries(x[t], position=t + offset)
            q_of_gate = q if self.conventions.query_gate_after_rope else self._queries(x[t], 0)
            heads = []
            for head in range(self.config.num_attention_heads):
                first_local = max(0, t - window + 1)
                y_global = self._attend(q[head], whole, head, first=0, last=t)
                if not self.config.plt_gated_window:
                    heads.append(y_global)
                    continue
                y_local = self._attend(q[head], own, head, first=first_local, last=t)
                g = self._gate(head, x[t], q_of_gate[head])
                if not self.conventions.gate_on_global:
                    g = 1.0 - g
                heads.append(g * y_global + (1.0 - g) * y_local)
            outputs.append(self._finish(x[t], heads))
        return outputs

    def _weight(self, name: str) -> Array:
        return self.weights[self.prefix + name]

    def _norm(self, x: Array, name: str) -> Array:
        return rms_norm(x, self._weight(name), self.config.rms_norm_eps)

    def _project(self, x: Array, name: str, heads: int) -> Vectors:
        """Project the normed x and cut the result into heads of head_dim numbers each."""
        n = self._norm(x, "input_layernorm.weight")
        y = self._weight(f"self_attn.{name}.weight") @ n
        K = self.config.head_dim
        return [y[head * K : (head + 1) * K] for head in range(heads)]

    def _queries(self, x: Array, position: int) -> Vectors:
        heads = self._project(x, "q_proj", self.config.num_attention_heads)
        return [rope(q, position, self.config.rope_theta) for q in heads]

    def _keys_values(self, x: Vectors, rope_offset: int) -> KeysValues:
        keys, values = [], []
        for t in range(len(x)):
            heads = self._project(x[t], "k_proj", self.config.num_key_value_heads)
            keys.append([rope(k, t + rope_offset, self.config.rope_theta) for k in heads])
            values.append(self._project(x[t], "v_proj", self.config.num_key_value_heads))
        return KeysValues(keys, values)

    def _attend(self, q: Array, cache: KeysValues, head: int, first: int, last: int) -> Array:
        """Softmax attention of one query head over the tokens first..last, both included."""
        heads_per_group = self.config.num_attention_heads // self.config.num_key_value_heads
        group = head // heads_per_group
        tokens = range(first, last + 1)
        scores = [float(q @ cache.keys[s][group]) / math.sqrt(len(q)) for s in tokens]
        shares = softmax(scores)
        y = np.zeros_like(q)
        for s, share in zip(tokens, shares, strict=True):
            y = y + share * cache.values[s][group]
        return y

    def _gate(self, head: int, residual: Array, q: Array) -> float:
        """g of one query head: the weight of the global branch."""
        w = self._weight("self_attn.plt_gate.weight")[head]
        bias = self._weight("self_attn.plt_gate.bias")[head]
        if not self.config.plt_gate_use_hidden_states:
            return sigmoid(float(q @ w) + bias)
        if not self.conventions.gate_reads_residual:
            residual = self._norm(residual, "input_layernorm.weight")
        return sigmoid(
            float(w @ self._norm(residual, "self_attn.plt_gate.gate_norm.weight")) + bias
        )

    def _finish(self, residual: Array, heads: Vectors) -> Array:
        """Output projection and MLP, each added to the residual stream."""
        x = residual + self._weight("self_attn.o_proj.weight") @ np.concatenate(heads)
        n = self._norm(x, "post_attention_layernorm.weight")
        gate = self._weight("mlp.gate_proj.weight") @ n
        up = self._weight("mlp.up_proj.weight") @ n
        silu = np.array([value * sigmoid(value) for value in gate])
        return x + self._weight("mlp.down_proj.weight") @ (silu * up)


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """Root-mean-square norm with a learned weight."""
    return x / math.sqrt(float(np.mean(x * x)) + eps) * weight


def rope(x: Array, position: int, theta: float) -> Array:
    """Rotate-half: number i and number i + K/2 form a pair, turned by position * theta^(-2i/K)."""
    K = len(x)
    half = K // 2
    turned = np.zeros_like(x)
    for i in range(half):
        angle = position * theta ** (-2.0 * i / K)
        turned[i] = x[i] * math.cos(angle) - x[i + half] * math.sin(angle)
        turned[i + half] = x[i + half] * math.cos(angle) + x[i] * math.sin(angle)
    return turned


def softmax(scores: Sequence[float]) -> list[float]:
    """Shares that sum to 1."""
    largest = max(scores)
    exponentials = [math.exp(score - largest) for score in scores]
    total = math.fsum(exponentials)
    return [value / total for value in exponentials]


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), without overflow."""
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    return math.exp(x) / (1.0 + math.exp(x))


def _arrays(loops: list[Vectors]) -> list[Array]:
    return [np.array(vectors) for vectors in loops]
