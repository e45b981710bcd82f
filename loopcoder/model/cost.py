"""What a PLT costs: parameters, FLOPs, KV bytes and carried state, as formulas. No torch.

FLOPs count the matrix products, two for each multiply-add:

- `linear`: the projections q, k, v, o, the three of the MLP, and the gates' (hidden-state gates:
  H x D; query gates: H x K) of every row, a (token, loop) pair, in every layer;
- `attention`: scores and weighted values, 4 H K for each key that a query may see. Masked pairs
  are not counted, though a kernel that computes a full square and masks it does spend them;
- `head`: the logits, where they are needed.

Variants of the architecture (`ModelConfig.variant`) are counted as what they compute and keep.

Embedding look-up, norms, RoPE, softmax, activations and the gate's mix are not counted: O(D) a
row, where the products take O(D^2). Letters are those of `loopcoder.kernels`; sections are
those of SPEC.md.
"""

from dataclasses import dataclass
from typing import Self

from loopcoder.model.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Number of weights by part; a tied head counts once, as embedding."""

    embedding: int
    head: int
    attention: int
    mlp: int
    norms: int
    gates: int

    @property
    def total(self) -> int:
        """All weights of the checkpoint."""
        return self.embedding + self.head + self.attention + self.mlp + self.norms + self.gates


def parameters(config: ModelConfig) -> Parameters:
    """The weights that `tensor_shapes(config)` lists, counted (section 1)."""
    L, D, V = config.num_hidden_layers, config.hidden_size, config.vocab_size
    return Parameters(
        embedding=V * D,
        head=0 if config.tie_word_embeddings else V * D,
        attention=L * (_qkv_weights(config) + _output_weights(config)),
        mlp=L * 3 * D * config.intermediate_size,
        norms=(2 * L + 1) * D,
        gates=L * _gate_parameters(config) if config.has_gates else 0,
    )


def _qkv_weights(config: ModelConfig) -> int:
    heads = config.num_attention_heads + 2 * config.num_key_value_heads
    return config.hidden_size * heads * config.head_dim


def _output_weights(config: ModelConfig) -> int:
    return config.num_attention_heads * config.head_dim * config.hidden_size


def _gate_weights(config: ModelConfig) -> int:
    width = config.hidden_size if config.plt_gate_use_hidden_states else config.head_dim
    return config.num_attention_heads * width


def _gate_parameters(config: ModelConfig) -> int:
    norm = config.hidden_size if config.plt_gate_use_hidden_states else 0
    return _gate_weights(config) + config.num_attention_heads + norm


@dataclass(frozen=True, kw_only=True)
class Flops:
    """FLOPs by kind; see the module's first lines for what each counts."""

    linear: int
    attention: int
    head: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.linear + self.attention + self.head

    def __add__(self, other: Self) -> "Flops":
        return Flops(
            linear=self.linear + other.linear,
            attention=self.attention + other.attention,
            head=self.head + other.head,
        )

    def __mul__(self, times: int) -> "Flops":
        return Flops(
            linear=self.linear * times, attention=self.attention * times, head=self.head * times
        )


def decode_flops(config: ModelConfig, context: int, loops: int | None = None) -> Flops:
    """One new token, the last of `context`, through all loops, and its logits (section 2)."""
    R = config.plt_num_loops if loops is None else loops
    flops = _head(config, 1)
    for loop in range(1, R + 1):
        flops += _layer(config, loop, context, rows_in=1, rows_out=1) * config.num_hidden_layers
    return flops


def prefill_flops(
    config: ModelConfig, tokens: int, loops: int | None = None, *, tail: bool = True
) -> Flops:
    """A prompt of `tokens` tokens, and the logits of its last position (section 3).

    With `tail`, loop r >= 2 runs on as many of the last tokens as each layer needs
    (`tail_rows`), and loop 1 on all of them up to the last layer's keys and values, of whose
    output no more than the tail is needed. Without, every loop runs on all tokens in all layers:
    always where loops do not share keys, since every loop's are then read as far back as loop 1's.
    """
    R = config.plt_num_loops if loops is None else loops
    tail = tail and config.plt_share_kv
    flops = _head(config, 1)
    for loop in range(1, R + 1):
        for layer in range(config.num_hidden_layers):
            rows_in = rows_out = tokens
            if tail and loop > 1:
                rows_in = min(tokens, tail_rows(config, R, loop, layer))
            if tail and (loop > 1 or layer == config.num_hidden_layers - 1):
                rows_out = min(tokens, tail_rows(config, R, loop, layer + 1))
            flops += _layer(config, loop, tokens, rows_in=rows_in, rows_out=rows_out)
    return flops


def forward_flops(config: ModelConfig, tokens: int, loops: int | None = None) -> Flops:
    """Every loop and the last loop's logits at all of `tokens` positions: the serial schedule."""
    at_last = prefill_flops(config, tokens, loops, tail=False)
    return at_last + _head(config, tokens - 1)


def training_flops(
    config: ModelConfig, tokens: int, loops: int | None = None, *, checkpointing: bool = False
) -> Flops:
    """One sequence of `tokens` tokens, forward and backward (section 4); divide for one token.

    The backward pass takes two products for each of the forward pass: by the input and by the
    weight. Gradient checkpointing computes the layers, not the head, forward once more.
    """
    forward = forward_flops(config, tokens, loops)
    if not checkpointing:
        return forward * 3
    layers = Flops(linear=forward.linear, attention=forward.attention, head=0)
    return forward * 3 + layers


def tail_rows(config: ModelConfig, loops: int, loop: int, layer: int) -> int:
    """Last tokens that loop `loop` (1-based) must have exact before layer `layer` (0-based).

    `layer` = L asks for its output; before that, loop 1 needs all tokens. Each layer reaches W - 1
    tokens back (none without G-SWA), and loop r is read by loop r + 1 shifted by one token (none in
    serial loops), so the needs add up from the last loop's last position. Loops share keys here.
    """
    assert config.plt_share_kv, "a loop's own keys, read in full, need all tokens"
    reach = config.plt_window_size[0] if config.plt_gated_window else 0
    L = config.num_hidden_layers
    later = loops - loop  # loops that read this one
    return later * (reach * L + config.plt_loop_offset) + reach * (L - layer) + 1


def _layer(config: ModelConfig, loop: int, tokens: int, *, rows_in: int, rows_out: int) -> Flops:
    """One layer of one loop on the last rows of a sequence of `tokens` tokens.

    Keys, values and queries are made of `rows_in` rows; the last `rows_out` of them attend and
    go through output projection and MLP.
    """
    D, F = config.hidden_size, config.intermediate_size
    weights_out = _output_weights(config) + 3 * D * F
    pairs = _causal_pairs(tokens, rows_out)
    if loop > 1 and config.plt_gated_window:
        weights_out += _gate_weights(config)
        pairs += _window_pairs(tokens, rows_out, config.window)
    return Flops(
        linear=2 * (rows_in * _qkv_weights(config) + rows_out * weights_out),
        attention=4 * config.num_attention_heads * config.head_dim * pairs,
        head=0,
    )


def _head(config: ModelConfig, rows: int) -> Flops:
    return Flops(linear=0, attention=0, head=2 * rows * config.hidden_size * config.vocab_size)


def _causal_pairs(tokens: int, rows: int) -> int:
    """(query, key) pairs of the last `rows` of `tokens` queries, each seeing all up to itself."""
    return rows * tokens - rows * (rows - 1) // 2


def _window_pairs(tokens: int, rows: int, window: int) -> int:
    """The same, each seeing at most the last `window` keys."""
    short = max(0, min(tokens, window - 1) - (tokens - rows))  # rows that see fewer than a window
    return _causal_pairs(min(tokens, window - 1), short) + (rows - short) * window


def kv_bytes_per_token(config: ModelConfig, dtype_bytes: int = 2, loops: int | None = None) -> int:
    """Keys and values kept of every token: loop 1's in all layers (section 2).

    Where loops do not share them, each loop's.
    """
    R = config.plt_num_loops if loops is None else loops
    return _one_loop_kv(config, dtype_bytes) * (1 if config.plt_share_kv else R)


def _one_loop_kv(config: ModelConfig, dtype_bytes: int) -> int:
    values = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return values * dtype_bytes


def ring_bytes(config: ModelConfig, loops: int | None = None, dtype_bytes: int = 2) -> int:
    """The later loops' windows of one sequence, however long it is: W keys and values a layer.

    None where there is no window, or where a loop's own keys are kept in full anyway.
    """
    if not (config.plt_share_kv and config.plt_gated_window):
        return 0
    R = config.plt_num_loops if loops is None else loops
    return (R - 1) * config.window * _one_loop_kv(config, dtype_bytes)


def kv_bytes(
    config: ModelConfig, context: int, loops: int | None = None, dtype_bytes: int = 2
) -> int:
    """All keys and values kept for one sequence of `context` tokens."""
    per_token = kv_bytes_per_token(config, dtype_bytes, loops)
    return context * per_token + ring_bytes(config, loops, dtype_bytes)


def carried_bytes(config: ModelConfig, loops: int | None = None, dtype_bytes: int = 2) -> int:
    """The states h^1 .. h^{R-1} that a sequence takes from one token to the next (section 2).

    None in serial loops, which read the token's own.
    """
    R = config.plt_num_loops if loops is None else loops
    return (R - 1) * config.plt_loop_offset * config.hidden_size * dtype_bytes
