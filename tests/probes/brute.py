"""SPEC.md sections 1 and 5 spelled out in NumPy, for one sequence: the slow twin of the probes.

Whole matrices, float64, one formula a function; shares no code with the package.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.special
import scipy.stats

from loopcoder.model.config import ModelConfig
from tests.model.configs import Array, Weights

Values = dict[tuple[str, int, int | None], Array]  # by measure, loop and layer


@dataclass
class Trace:
    """What a run of R loops went through; index 0 of `u` and `h` is the embedding."""

    u: list[Array]  # [T, D]
    h: list[Array]
    log_p: list[Array]  # [T, V], loop r at r - 1
    maps: list[list[dict[str, Array]]] = field(default_factory=list)  # [R][L], each [H, T, T]
    gates: list[list[Array]] = field(default_factory=list)  # [R][L], each [T, H]; loop 1 has none


def run(weights: Weights, config: ModelConfig, tokens: list[int], loops: int) -> Trace:
    """The model of section 1."""
    E = weights["model.embed_tokens.weight"][tokens]
    head = "model.embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"
    trace = Trace(u=[E], h=[E], log_p=[])
    first_loop: list[Array] = []
    for r in range(1, loops + 1):
        x = E
        if r > 1:
            before = trace.h[-1] if config.plt_normalize_per_loop else trace.u[-1]
            if config.plt_loop_offset:
                before = np.vstack([np.zeros_like(E[:1]), before[:-1]])
            x = config.emb_scale * E + config.hidden_scale * before
        trace.maps.append([])
        trace.gates.append([])
        for index in range(config.num_hidden_layers):
            w = {
                name.removeprefix(f"model.layers.{index}."): value
                for name, value in weights.items()
                if name.startswith(f"model.layers.{index}.")
            }
            x = _layer(w, config, x, index, r, first_loop, trace)
        trace.u.append(x)
        trace.h.append(_norm(x, weights["model.norm.weight"], config))
        trace.log_p.append(scipy.special.log_softmax(trace.h[-1] @ weights[head].T, axis=-1))
    return trace


def _layer(
    w: dict[str, Array],
    config: ModelConfig,
    x: Array,
    index: int,
    r: int,
    first_loop: list[Any],
    trace: Trace,
) -> Array:
    T, H = len(x), config.num_attention_heads
    n = _norm(x, w["input_layernorm.weight"], config)
    q = _rope(_heads(n, w["self_attn.q_proj.weight"], config), config)
    k = _rope(_heads(n, w["self_attn.k_proj.weight"], config), config)
    v = _heads(n, w["self_attn.v_proj.weight"], config)
    group = H // config.num_key_value_heads
    k, v = k.repeat(group, axis=0), v.repeat(group, axis=0)
    if r == 1:
        first_loop.append((k, v))
    ages = np.arange(T)[:, None] - np.arange(T)[None, :]
    k_whole, v_whole = first_loop[index] if config.plt_share_kv else (k, v)
    full = _softmax_map(q, k_whole, ages >= 0)
    y = full @ v_whole
    maps = {"global": full, "mixed": full}
    if r > 1 and config.plt_gated_window:
        local = _softmax_map(q, k, (ages >= 0) & (ages < config.plt_window_size[0] + 1))
        gate_w, gate_b = w["self_attn.plt_gate.weight"], w["self_attn.plt_gate.bias"]
        if config.plt_gate_use_hidden_states:
            residual = _norm(x, w["self_attn.plt_gate.gate_norm.weight"], config)
            g = scipy.special.expit(residual @ gate_w.T + gate_b)
        else:
            g = scipy.special.expit(np.einsum("htk,hk->th", q, gate_w) + gate_b)
        g_H = g.T[:, :, None]
        y = g_H * y + (1 - g_H) * (local @ v)
        maps |= {"local": local, "mixed": g_H * full + (1 - g_H) * local}
        trace.gates[-1].append(g)
    trace.maps[-1].append(maps)
    x = x + y.transpose(1, 0, 2).reshape(T, -1) @ w["self_attn.o_proj.weight"].T
    n = _norm(x, w["post_attention_layernorm.weight"], config)
    up = n @ w["mlp.up_proj.weight"].T
    gated = n @ w["mlp.gate_proj.weight"].T
    return x + (gated * scipy.special.expit(gated) * up) @ w["mlp.down_proj.weight"].T


def _norm(x: Array, weight: Array, config: ModelConfig) -> Array:
    scale = np.sqrt((x**2).mean(-1, keepdims=True) + config.rms_norm_eps)
    normed: Array = x / scale * weight
    return normed


def _heads(n: Array, weight: Array, config: ModelConfig) -> Array:
    return (n @ weight.T).reshape(len(n), -1, config.head_dim).transpose(1, 0, 2)


def _rope(x: Array, config: ModelConfig) -> Array:
    """[heads, T, K] as complex pairs i and i + K/2, turned by t theta^(-2i/K)."""
    K = config.head_dim
    angle = np.arange(x.shape[1])[:, None] * config.rope_theta ** (-np.arange(0, K, 2) / K)
    turned = (x[..., : K // 2] + 1j * x[..., K // 2 :]) * np.exp(1j * angle)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def _softmax_map(q: Array, k: Array, seen: Array) -> Array:
    score = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
    shares: Array = scipy.special.softmax(np.where(seen, score, -np.inf), axis=-1)
    return shares


def measure(
    weights: Weights, config: ModelConfig, tokens: list[int], loops: int, options: dict[str, Any]
) -> Values:
    """Every row of section 5's table for one sample, by the names of the records.

    `options` are the conventions. A difference counts where both of its positions do.
    """
    first = options["first_token"]
    # u^{R+1} is f(u^R): one more pass with the embedding mixed in and the shift applied.
    trace = run(weights, config, tokens, loops + (config.plt_num_loops > 1))
    values: Values = {}
    _states(values, trace, loops, options, config)
    _outputs(values, trace, tokens, loops, options)
    for layer in range(config.num_hidden_layers):
        for r in range(1, loops + 1):
            if r > 1 and config.plt_gated_window:
                values["gate", r, layer] = trace.gates[r - 1][layer][first:].mean(0)
            _attention(values, trace, r, layer, options)
    return values


def _states(
    values: Values, trace: Trace, loops: int, options: dict[str, Any], config: ModelConfig
) -> None:
    first = options["first_token"]
    x = [state[first:] for state in getattr(trace, options["step_state"])]
    moved = [state[first:] for state in getattr(trace, options["offset_state"])]
    for r in range(1, loops + 1):
        values["step_size", r, None] = _length(x[r] - x[r - 1]).mean()
        if config.plt_num_loops > 1:
            values["fixed_point_gap", r, None] = _length(x[r] - x[r + 1]).mean()
        spectrum = getattr(trace, options["rank_state"])[r][first:]
        if options["rank_rows"] == "rms":
            spectrum = spectrum / np.sqrt((spectrum**2).mean(-1, keepdims=True))
        values["effective_rank", r, None] = _rank(spectrum)
        if r > 1:
            new, old = x[r] - x[r - 1], x[r - 1] - x[r - 2]
            lengths = _length(new) * _length(old)
            # Position 0 reads nothing of the loop before, so it stands still from loop 3 on.
            cosine = (new * old).sum(-1) / np.where(lengths > 0, lengths, 1.0)
            values["update_angle", r, None] = cosine.mean()
            if config.plt_loop_offset:
                offset = moved[r - 1][1:] - moved[r - 1][:-1]
                values["offset_cost", r, None] = _length(offset).mean()


def _outputs(
    values: Values, trace: Trace, tokens: list[int], loops: int, options: dict[str, Any]
) -> None:
    first = options["first_token"]
    log_p = [each[first:-1] for each in trace.log_p]
    following = tokens[first + 1 :]
    shifts = []
    for r in range(1, loops + 1):
        p = np.exp(log_p[r - 1])
        own = np.array([row[token] for row, token in zip(p, following, strict=True)])
        values["loss", r, None] = -np.log(own).mean()
        ranks = [1 + sum(row > value) for row, value in zip(p, own, strict=True)]
        values["truth_rank", r, None] = np.median(ranks)
        values["output_entropy", r, None] = scipy.stats.entropy(p, axis=-1).mean()
        if r > 1:
            pair = p, np.exp(log_p[r - 2])
            shifts.append(_kl(*(pair[::-1] if _backwards(options) else pair)))
            values["output_shift", r, None] = shifts[-1].mean()
    for r in range(2, loops + 1):
        largest = np.max(shifts, axis=0)
        values["peak_share", r, None] = (shifts[r - 2] == largest).mean()


def _attention(values: Values, trace: Trace, r: int, layer: int, options: dict[str, Any]) -> None:
    first = options["first_token"]
    maps = {name: each[:, first:] for name, each in trace.maps[r - 1][layer].items()}
    for name, each in maps.items():
        entropy = scipy.stats.entropy(each, axis=-1)
        values[f"attention_entropy_{name}", r, layer] = entropy.mean(-1)
    if r > 1:
        branch = options["attention_branch"]
        pair = maps[branch], trace.maps[r - 2][layer][branch][:, first:]
        values["attention_shift", r, layer] = _kl(
            *(pair[::-1] if _backwards(options) else pair)
        ).mean(-1)
    by_query = maps["mixed"].transpose(1, 0, 2)
    values["head_rank", r, layer] = np.mean([_rank(heads) for heads in by_query])
    lengths = _length(by_query)
    cosine = np.mean(
        [m @ m.T / np.outer(n, n) for m, n in zip(by_query, lengths, strict=True)], axis=0
    )
    H = len(cosine)
    values["head_similarity", r, layer] = cosine
    if H > 1:
        values["head_cosine", r, layer] = cosine[~np.eye(H, dtype=bool)].mean()


def _backwards(options: dict[str, Any]) -> bool:
    return bool(options["shift_direction"] == "from_previous")


def _length(x: Array) -> Array:
    return np.sqrt((x**2).sum(-1))


def _rank(matrix: Array) -> Array:
    rank: Array = np.exp(scipy.stats.entropy(np.linalg.svd(matrix, compute_uv=False)))
    return rank


def _kl(p: Array, q: Array) -> Array:
    nats: Array = scipy.stats.entropy(p, q, axis=-1)
    return nats


def over_documents(documents: list[str], values: list[Array]) -> tuple[Array, Array, Array]:
    """Mean over documents of their samples' means, with its 95 % t interval."""
    names = sorted(set(documents))
    means = np.array(
        [np.mean([v for d, v in zip(documents, values, strict=True) if d == n], 0) for n in names]
    )
    half = scipy.stats.t.ppf(0.975, len(means) - 1) * means.std(0, ddof=1) / np.sqrt(len(means))
    return means.mean(0), means.mean(0) - half, means.mean(0) + half
