"""The reference against numbers worked out by hand, and against what must hold of any PLT."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from loopcoder.model.config import ModelConfig
from loopcoder.model.shapes import tensor_shapes
from tests.model.configs import (
    MAX_LENGTH,
    Array,
    Weights,
    random_cases,
    random_tokens,
    random_weights,
)
from tests.model.reference import SPEC, Conventions, reference_forward, rms_norm, rope

# Wide open or shut to float64: sigmoid(50) is 1 - 2e-22.
OPEN, SHUT = 50.0, -50.0


def small_config(**changes: Any) -> ModelConfig:
    """Two layers, two loops, every branch large enough to matter."""
    config = ModelConfig(
        vocab_size=17,
        hidden_size=12,
        intermediate_size=10,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=6,
        rope_theta=100.0,
        plt_num_loops=2,
        plt_window_size=(2, 0),
        plt_emb_scale=0.8,
        plt_hidden_scale=0.6,
    )
    return config.with_(**changes)


def set_gates(weights: Weights, bias: float) -> Weights:
    """Every gate at sigmoid(bias), whatever its input."""
    changed = dict(weights)
    for name in weights:
        if name.endswith("plt_gate.weight"):
            changed[name] = np.zeros_like(weights[name])
        if name.endswith("plt_gate.bias"):
            changed[name] = np.full_like(weights[name], bias)
    return changed


def set_tensors(weights: Weights, ending: str, value: float) -> Weights:
    """Every tensor whose name has this ending filled with one value."""
    return {
        name: np.full_like(array, value) if name.endswith(ending) else array
        for name, array in weights.items()
    }


def averaging_weights(config: ModelConfig, bias: float) -> Weights:
    """One attention layer that averages the values it sees and writes them out unprojected."""
    weights = set_gates(random_weights(config, seed=3), bias)
    weights = set_tensors(weights, "q_proj.weight", 0.0)
    weights = set_tensors(weights, "down_proj.weight", 0.0)
    D = config.hidden_size
    assert config.num_attention_heads * config.head_dim == D
    weights["model.layers.0.self_attn.o_proj.weight"] = np.eye(D)
    return weights


def values_of(x_TD: Array, weights: Weights, config: ModelConfig) -> Array:
    """Layer 0's values [T, H * K], each key/value head repeated for its query heads."""
    norm = weights["model.layers.0.input_layernorm.weight"]
    scale_T1 = np.sqrt(np.mean(x_TD**2, axis=1, keepdims=True) + config.rms_norm_eps)
    v_TC = (x_TD / scale_T1 * norm) @ weights["model.layers.0.self_attn.v_proj.weight"].T
    G, K = config.num_key_value_heads, config.head_dim
    heads_per_group = config.num_attention_heads // G
    v_TGK = v_TC.reshape(len(x_TD), G, K)
    return np.repeat(v_TGK, heads_per_group, axis=1).reshape(len(x_TD), -1)


def test_cases_cover_every_option() -> None:
    cases = random_cases()
    configs = [case.config for case in cases]
    assert len(cases) >= 48
    assert {c.plt_num_loops for c in configs} == {1, 2, 3, 4}
    assert {c.num_hidden_layers for c in configs} == {1, 2, 3, 4}
    looped = [c for c in configs if c.plt_num_loops > 1]
    assert len({(c.plt_gate_use_hidden_states, c.plt_normalize_per_loop) for c in looped}) == 4
    assert {c.tie_word_embeddings for c in looped} == {True, False}
    assert any(c.plt_emb_scale is None for c in looped)
    assert any(c.plt_hidden_scale is None for c in looped)
    assert any(c.num_key_value_heads == 1 < c.num_attention_heads for c in looped)
    assert any(1 < c.num_key_value_heads < c.num_attention_heads for c in looped)
    assert any(c.num_key_value_heads == c.num_attention_heads > 1 for c in looped)
    assert {0, 1, 2} <= {c.plt_window_size[0] for c in looped}
    assert {1, 2, MAX_LENGTH} <= {case.length for case in cases}
    assert any(c.config.plt_window_size[0] > c.length for c in cases if c.config in looped)


def test_random_weights_have_the_checkpoint_names_and_shapes() -> None:
    for case in random_cases(8):
        weights = case.weights()
        assert {name: w.shape for name, w in weights.items()} == tensor_shapes(case.config)
        assert all(np.all(w != 0) for w in weights.values())


def test_rms_norm_by_hand() -> None:
    # mean square of (3, 4) is 12.5; with eps 12.5 the divisor is 5
    assert_allclose(rms_norm(np.array([3.0, 4.0]), np.array([1.0, 2.0]), 12.5), [0.6, 1.6])


def test_rope_turns_the_two_halves_as_pairs() -> None:
    # K = 4, theta = 4: the first pair (0, 2) turns by t, the second (1, 3) by t * 4^(-1/2) = t / 2
    turned = rope(np.array([1.0, 1.0, 0.0, 0.0]), 3, 4.0)
    assert_allclose(turned, [math.cos(3), math.cos(1.5), math.sin(3), math.sin(1.5)])
    turned = rope(np.array([0.0, 0.0, 1.0, 1.0]), 3, 4.0)
    assert_allclose(turned, [-math.sin(3), -math.sin(1.5), math.cos(3), math.cos(1.5)])


def two_number_model(**changes: Any) -> tuple[ModelConfig, Weights]:
    """D = K = 2, one layer, one head, identity projections, an MLP that only moves number 0."""
    config = ModelConfig(
        vocab_size=2,
        hidden_size=2,
        intermediate_size=1,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=2,
        rms_norm_eps=12.5,
        tie_word_embeddings=True,
        plt_num_loops=1,
    ).with_(**changes)
    weights = {name: np.ones(shape) for name, shape in tensor_shapes(config).items()}
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        weights[f"model.layers.0.self_attn.{name}.weight"] = np.eye(2)
    weights["model.embed_tokens.weight"] = np.array([[3.0, 4.0], [4.0, -3.0]])
    weights["model.layers.0.mlp.gate_proj.weight"] = np.array([[2.0, 0.0]])
    weights["model.layers.0.mlp.up_proj.weight"] = np.array([[0.0, 3.0]])
    weights["model.layers.0.mlp.down_proj.weight"] = np.array([[1.0], [0.0]])
    return config, weights


def test_one_token_by_hand() -> None:
    config, weights = two_number_model()
    result = reference_forward(weights, config, [0])
    # n = (0.6, 0.8); a lone token attends to itself, so y = v = n and x = (3.6, 4.8), whose mean
    # square is 18: the MLP sees x / sqrt(30.5)
    n0, n1 = 3.6 / math.sqrt(30.5), 4.8 / math.sqrt(30.5)
    silu = 2 * n0 / (1 + math.exp(-2 * n0))
    u = np.array([3.6 + silu * 3 * n1, 4.8])
    h = u / math.sqrt((u[0] ** 2 + u[1] ** 2) / 2 + 12.5)
    assert_allclose(result.raw[0], [u], rtol=1e-14)
    assert_allclose(result.states[0], [h], rtol=1e-14)
    assert_allclose(result.logits, [[3 * h[0] + 4 * h[1], 4 * h[0] - 3 * h[1]]], rtol=1e-14)


def test_attention_of_two_tokens_by_hand() -> None:
    config, weights = two_number_model()
    weights["model.layers.0.mlp.down_proj.weight"] = np.zeros((2, 1))
    u = reference_forward(weights, config, [0, 1]).raw[0]
    # n_0 = (0.6, 0.8) and n_1 = (0.8, -0.6) stand at a right angle, n_1 a quarter turn clockwise.
    # Turning n_1 by one radian (position 1) leaves 1 - pi/2 between query 1 and key 0.
    score_0 = math.cos(1 - math.pi / 2) / math.sqrt(2)
    score_1 = 1 / math.sqrt(2)
    share_0 = math.exp(score_0) / (math.exp(score_0) + math.exp(score_1))
    y_1 = share_0 * np.array([0.6, 0.8]) + (1 - share_0) * np.array([0.8, -0.6])
    assert_allclose(u, [[3.6, 4.8], np.array([4.0, -3.0]) + y_1], rtol=1e-14)


def test_second_loop_of_one_token_by_hand() -> None:
    config, weights = two_number_model(plt_num_loops=2, plt_emb_scale=2.0, plt_hidden_scale=5.0)
    weights["model.layers.0.mlp.down_proj.weight"] = np.zeros((2, 1))
    weights["model.layers.0.self_attn.plt_gate.weight"] = np.array([[1.0, 1.0]])
    weights["model.layers.0.self_attn.plt_gate.bias"] = np.array([0.25])
    weights["model.layers.0.self_attn.plt_gate.gate_norm.weight"] = np.array([1.0, -1.0])
    u = reference_forward(weights, config, [0]).raw[1]
    # residual (6, 8), mean square 50: its norm is (6, 8) / sqrt(62.5). The global branch gives
    # loop 1's value (0.6, 0.8), the local one the residual's norm.
    own = np.array([6.0, 8.0]) / math.sqrt(62.5)
    g = 1 / (1 + math.exp(-(own[0] - own[1] + 0.25)))
    expected = np.array([6.0, 8.0]) + g * np.array([0.6, 0.8]) + (1 - g) * own
    assert_allclose(u, [expected], rtol=1e-14)


def test_query_gate_reads_the_rotated_query_by_hand() -> None:
    config, weights = two_number_model(
        plt_num_loops=2,
        plt_emb_scale=1.0,
        plt_hidden_scale=0.0,
        plt_gate_use_hidden_states=False,
        plt_window_size=(0, 0),
    )
    weights["model.layers.0.mlp.down_proj.weight"] = np.zeros((2, 1))
    weights["model.layers.0.self_attn.plt_gate.weight"] = np.array([[3.0, 0.0]])
    weights["model.layers.0.self_attn.plt_gate.bias"] = np.array([0.25])
    u_1, u_2 = reference_forward(weights, config, [0, 1]).raw
    # loop 2 starts as loop 1 did: global gives loop 1's y, local the token's own value
    y_global = u_1[1] - [4.0, -3.0]
    g = 1 / (1 + math.exp(-(3 * (0.8 * math.cos(1) + 0.6 * math.sin(1)) + 0.25)))
    y = g * y_global + (1 - g) * np.array([0.8, -0.6])
    assert_allclose(u_2[1], np.array([4.0, -3.0]) + y, rtol=1e-14)


def test_query_heads_share_key_value_heads_consecutively() -> None:
    config = small_config(num_hidden_layers=1, head_dim=2, hidden_size=8, plt_num_loops=1)
    weights = averaging_weights(config, OPEN)
    result = reference_forward(weights, config, [4])
    value = values_of(result.inputs[0], weights, config)
    assert_allclose(result.raw[0], result.inputs[0] + value, rtol=1e-13)


def test_open_gate_is_all_global_loop_one_values() -> None:
    config = small_config(num_hidden_layers=1, head_dim=2, hidden_size=8)
    weights = averaging_weights(config, OPEN)
    result = reference_forward(weights, config, random_tokens(config, 6, seed=1))
    v_TD = values_of(result.inputs[0], weights, config)
    for t in range(6):
        expected = result.inputs[1][t] + v_TD[: t + 1].mean(axis=0)
        assert_allclose(result.raw[1][t], expected, rtol=1e-12)


@pytest.mark.parametrize("left", [0, 1, 2, 5, 9])
def test_shut_gate_is_left_plus_one_values_of_its_own_loop(left: int) -> None:
    config = small_config(
        num_hidden_layers=1, head_dim=2, hidden_size=8, plt_window_size=(left, 0), plt_num_loops=3
    )
    weights = averaging_weights(config, SHUT)
    result = reference_forward(weights, config, random_tokens(config, 6, seed=1))
    for r in (2, 3):
        v_TD = values_of(result.inputs[r - 1], weights, config)
        for t in range(6):
            seen = v_TD[max(0, t - left) : t + 1]
            assert len(seen) == min(left + 1, t + 1)
            expected = result.inputs[r - 1][t] + seen.mean(axis=0)
            assert_allclose(result.raw[r - 1][t], expected, rtol=1e-12)


@pytest.mark.parametrize("normalize", [True, False])
def test_later_loops_read_the_previous_token_of_the_previous_loop(normalize: bool) -> None:
    config = small_config(plt_num_loops=3, plt_normalize_per_loop=normalize)
    weights = random_weights(config, seed=5)
    tokens = random_tokens(config, 5, seed=5)
    result = reference_forward(weights, config, tokens)
    E = weights["model.embed_tokens.weight"][tokens]
    assert_allclose(result.inputs[0], E)
    for r in (2, 3):
        handed_on = result.states[r - 2] if normalize else result.raw[r - 2]
        assert_allclose(result.inputs[r - 1][0], 0.8 * E[0])
        assert_allclose(result.inputs[r - 1][1:], 0.8 * E[1:] + 0.6 * handed_on[:-1])


def test_null_scales_mean_one() -> None:
    weights = random_weights(small_config(), seed=6)
    tokens = [1, 2, 3]
    null = reference_forward(
        weights, small_config(plt_emb_scale=None, plt_hidden_scale=None), tokens
    )
    one = reference_forward(weights, small_config(plt_emb_scale=1.0, plt_hidden_scale=1.0), tokens)
    assert_allclose(null.logits, one.logits, rtol=0, atol=0)


def test_logits_come_from_the_last_normed_state() -> None:
    for tied in (False, True):
        config = small_config(tie_word_embeddings=tied, plt_normalize_per_loop=False)
        weights = random_weights(config, seed=7)
        result = reference_forward(weights, config, [3, 1, 4])
        head = weights["model.embed_tokens.weight" if tied else "lm_head.weight"]
        assert_allclose(result.logits, result.states[-1] @ head.T, rtol=1e-12)


def test_one_loop_ignores_gates_window_and_scales() -> None:
    config = small_config()
    weights = random_weights(config, seed=8)
    tokens = random_tokens(config, 7, seed=8)
    plain = reference_forward(weights, config, tokens, num_loops=1)
    without_gates = {name: w for name, w in weights.items() if "plt_gate" not in name}
    changed = config.with_(
        plt_window_size=(0, 0), plt_emb_scale=3.0, plt_hidden_scale=2.0, plt_num_loops=1
    )
    other = reference_forward(without_gates, changed, tokens)
    assert_allclose(other.logits, plain.logits, rtol=0, atol=0)
    assert len(plain.states) == 1


def test_running_more_loops_leaves_the_earlier_ones_alone() -> None:
    config = small_config(plt_num_loops=3)
    weights = random_weights(config, seed=9)
    tokens = random_tokens(config, 6, seed=9)
    two = reference_forward(weights, config, tokens, num_loops=2)
    four = reference_forward(weights, config, tokens, num_loops=4)
    assert [len(two.states), len(four.states)] == [2, 4]
    assert_allclose(four.states[:2], two.states, rtol=0, atol=0)
    assert np.abs(four.states[3] - four.states[2]).max() > 1e-3


def test_loops_repeat_the_first_when_nothing_is_handed_on() -> None:
    # a = 1, b = 0 and a window over everything: local and global attention are the same thing
    config = small_config(
        plt_num_loops=3, plt_emb_scale=1.0, plt_hidden_scale=0.0, plt_window_size=(8, 0)
    )
    weights = random_weights(config, seed=10)
    result = reference_forward(weights, config, random_tokens(config, 8, seed=10))
    assert_allclose(result.raw[1], result.raw[0], rtol=1e-12)
    assert_allclose(result.raw[2], result.raw[0], rtol=1e-12)


def test_shut_gate_and_wide_window_is_an_ordinary_pass_on_scaled_embeddings() -> None:
    config = small_config(plt_hidden_scale=0.0, plt_window_size=(8, 0))
    weights = set_gates(random_weights(config, seed=11), SHUT)
    tokens = random_tokens(config, 8, seed=11)
    looped = reference_forward(weights, config, tokens)
    scaled = weights | {"model.embed_tokens.weight": 0.8 * weights["model.embed_tokens.weight"]}
    plain = reference_forward(scaled, config, tokens, num_loops=1)
    assert_allclose(looped.logits, plain.logits, rtol=1e-12)


def test_no_position_sees_the_future() -> None:
    config = small_config(plt_num_loops=3)
    weights = random_weights(config, seed=12)
    tokens = random_tokens(config, 8, seed=12)
    whole = reference_forward(weights, config, tokens)
    start = reference_forward(weights, config, tokens[:5])
    assert_allclose(whole.logits[:5], start.logits, rtol=0, atol=0)


BENT = {
    "window one key short": replace(SPEC, keys_beside_window=0),
    "window one key long": replace(SPEC, keys_beside_window=2),
    "gate on local": replace(SPEC, gate_on_global=False),
    "gate reads the layer's norm": replace(SPEC, gate_reads_residual=False),
    "no shift": replace(SPEC, further_back=-1),
    "shift by two": replace(SPEC, further_back=1),
    "later loops at position t - 1": replace(SPEC, later_rope_offset=-1),
}


def largest_change(
    config: ModelConfig, conventions: Conventions = SPEC, **changes: Any
) -> tuple[float, float]:
    """How far loop 1's and the last loop's states move when one thing is changed."""
    weights = random_weights(config, seed=13)
    tokens = random_tokens(config, 8, seed=13)
    spec = reference_forward(weights, config, tokens)
    bent = reference_forward(weights, config.with_(**changes), tokens, conventions=conventions)
    return (
        float(np.abs(bent.states[0] - spec.states[0]).max()),
        float(np.abs(bent.states[-1] - spec.states[-1]).max()),
    )


@pytest.mark.parametrize("conventions", BENT.values(), ids=BENT.keys())
def test_a_bent_convention_shows(conventions: Conventions) -> None:
    first, last = largest_change(small_config(), conventions)
    assert first == 0
    assert last > 1e-3


def test_gate_on_the_query_before_rope_shows() -> None:
    bent = replace(SPEC, query_gate_after_rope=False)
    first, last = largest_change(small_config(plt_gate_use_hidden_states=False), bent)
    assert first == 0
    assert last > 1e-3


@pytest.mark.parametrize(
    "changes",
    [
        {"plt_normalize_per_loop": False},
        {"plt_emb_scale": 1.0},
        {"plt_hidden_scale": 1.0},
        {"plt_window_size": (0, 0)},
        {"plt_loop_offset": 0},
        {"plt_share_kv": False},
        {"plt_gated_window": False},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_loop_setting_shows_in_later_loops_only(changes: dict[str, Any]) -> None:
    first, last = largest_change(small_config(), **changes)
    assert first == 0
    assert last > 1e-3
