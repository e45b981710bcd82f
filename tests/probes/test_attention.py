"""Attention measures: known answers, a dense float64 twin, and the real model's own attention."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from loopcoder.errors import RequestError
from loopcoder.probes.attention import AttentionMeasures, LayerAttention, maps, measure_attention
from tests.small import small_model

WINDOW = 65
MEASURES = (
    "entropy_global_BH",
    "entropy_local_BH",
    "entropy_mixed_BH",
    "shift_BH",
    "head_rank_B",
    "head_similarity_BHH",
    "head_cosine_B",
)


def layer(
    B: int = 2,
    T: int = 30,
    H: int = 4,
    G: int = 2,
    K: int = 6,
    *,
    loop: int = 2,
    window: int = 7,
    gate: float | None = None,
    scale: float = 2.0,
    dtype: torch.dtype = torch.float64,
) -> LayerAttention:
    """Random queries and keys; loops share loop 1's keys, all else differs by `loop`."""
    shared, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(loop)

    def normal(generator: torch.Generator, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    k_global = normal(shared, B, T, G, K)
    q = scale * normal(own, B, T, H, K)
    if loop == 1:
        return LayerAttention(q_BTHK=q, k_global_BTGK=k_global, window=window)
    g = (2 * normal(own, B, T, H)).sigmoid() if gate is None else torch.full((B, T, H), gate)
    return LayerAttention(
        q_BTHK=q,
        k_global_BTGK=k_global,
        k_local_BTGK=normal(own, B, T, G, K),
        gate_BTH=g.to(dtype),
        window=window,
    )


def looking_at(key_TH: Tensor) -> LayerAttention:
    """Loop 1, in which the head of each query looks at one key alone."""
    T = key_TH.shape[0]
    k = torch.eye(T, dtype=torch.float64)
    return LayerAttention(q_BTHK=1e5 * k[key_TH][None], k_global_BTGK=k[None, :, None], window=9)


def dense(attention: LayerAttention) -> dict[str, np.ndarray]:
    """The slow twin: whole maps [B, H, T, S] in float64, as probabilities, from the definition."""
    q = attention.q_BTHK.double().numpy()
    T, H, K = q.shape[1:]
    distance = np.arange(T)[:, None] - np.arange(T)[None, :]

    def softmax(k_BTGK: Tensor, window: int) -> np.ndarray:
        k = k_BTGK.double().numpy().repeat(H // k_BTGK.shape[2], axis=2)
        score = np.einsum("bthk,bshk->bhts", q, k) / math.sqrt(K)
        weight = np.where((distance >= 0) & (distance < window), np.exp(score), 0.0)
        return weight / weight.sum(-1, keepdims=True)

    found = {"global": softmax(attention.k_global_BTGK, T)}
    if attention.k_local_BTGK is None or attention.gate_BTH is None:
        return found | {"mixed": found["global"]}
    g = attention.gate_BTH.double().numpy().transpose(0, 2, 1)[..., None]
    found["local"] = softmax(attention.k_local_BTGK, attention.window)
    return found | {"mixed": g * found["global"] + (1 - g) * found["local"]}


def dense_rank(map_BHTS: np.ndarray) -> np.ndarray:
    """Effective rank of each query's heads x keys matrix, by a singular value decomposition."""
    singular = np.linalg.svd(map_BHTS.transpose(0, 2, 1, 3), compute_uv=False)
    return np.exp(scipy.stats.entropy(singular, axis=-1))


def assert_same(one: AttentionMeasures, other: AttentionMeasures, tolerance: float) -> None:
    for name in MEASURES:
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None), name
        if a is not None:
            torch.testing.assert_close(a, b, rtol=0, atol=tolerance, msg=lambda m, n=name: n + m)


def test_uniform_attention_has_the_entropy_of_its_number_of_keys() -> None:
    T = 100
    uniform = layer(T=T, scale=0.0, window=WINDOW)
    found = measure_attention(uniform, None)
    every = sum(math.log(n) for n in range(1, T + 1)) / T
    windowed = sum(math.log(min(n, WINDOW)) for n in range(1, T + 1)) / T
    assert found.entropy_local_BH is not None
    torch.testing.assert_close(found.entropy_global_BH, torch.full((2, 4), every).double())
    torch.testing.assert_close(found.entropy_local_BH, torch.full((2, 4), windowed).double())
    assert found.shift_BH is None


def test_a_map_of_one_key_has_no_entropy() -> None:
    one_key = looking_at(torch.arange(12)[:, None].expand(12, 3) // 2)
    found = measure_attention(one_key, None)
    assert found.entropy_global_BH.abs().max() < 1e-12
    assert found.entropy_mixed_BH.abs().max() < 1e-12


def test_identical_heads_count_as_one() -> None:
    one = layer(H=1, G=1)
    alike = LayerAttention(
        q_BTHK=one.q_BTHK.expand(-1, -1, 5, -1), k_global_BTGK=one.k_global_BTGK, window=one.window
    )
    found = measure_attention(alike, None)
    ones = torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(found.head_rank_B, ones, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.head_cosine_B, ones)


def test_disjoint_heads_count_each() -> None:
    H, T = 4, 11
    apart = looking_at(torch.arange(H)[None, :].expand(T, H))
    found = measure_attention(apart, None, first_query=H - 1)  # from where all of the keys are seen
    torch.testing.assert_close(found.head_rank_B, torch.tensor([float(H)]).double())
    assert found.head_cosine_B is not None
    assert found.head_cosine_B.abs().max() < 1e-12
    torch.testing.assert_close(found.head_similarity_BHH, torch.eye(H)[None].double())


def test_a_lone_head_has_rank_1_and_no_cosine() -> None:
    found = measure_attention(layer(H=1, G=1), None)
    torch.testing.assert_close(found.head_rank_B, torch.ones(2).double())
    assert found.head_cosine_B is None
    torch.testing.assert_close(found.head_similarity_BHH, torch.ones(2, 1, 1).double())


@pytest.mark.parametrize("branch", ["mixed", "global"])
@pytest.mark.parametrize("loop", [1, 2])
def test_identical_loops_do_not_shift(loop: int, branch: Any) -> None:
    same = layer(loop=loop, dtype=torch.float32, scale=9.0)
    found = measure_attention(same, same, shift_branch=branch)
    assert found.shift_BH is not None
    assert not found.shift_BH.any()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_everything_agrees_with_dense_maps(data: st.DataObject) -> None:
    G, group = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    T = data.draw(st.integers(1, 17))
    shape: dict[str, Any] = {"T": T, "H": G * group, "G": G, "window": data.draw(st.integers(1, T))}
    before = data.draw(st.integers(1, 2))
    current, previous = layer(loop=before + 1, **shape), layer(loop=before, **shape)
    block, first = data.draw(st.integers(1, T + 3)), data.draw(st.integers(0, T - 1))
    branch = data.draw(st.sampled_from(["mixed", "global"]))
    direction = data.draw(st.sampled_from(["to_previous", "from_previous"]))

    found = measure_attention(
        current,
        previous,
        block=block,
        first_query=first,
        shift_branch=branch,
        shift_direction=direction,
    )
    now, last = dense(current), dense(previous)
    p, q = (now, last) if direction == "to_previous" else (last, now)
    close(found.shift_BH, scipy.stats.entropy(p[branch], q[branch], axis=-1)[..., first:].mean(-1))
    for kind in ("global", "local", "mixed"):
        entropy = scipy.stats.entropy(now[kind], axis=-1)[..., first:].mean(-1)
        close(getattr(found, f"entropy_{kind}_BH"), entropy)
    rank = dense_rank(now["mixed"])[:, first:].mean(-1)
    close(found.head_rank_B, rank, tolerance=1e-6)  # a Gram matrix halves the digits of small ones
    unit = now["mixed"] / np.linalg.norm(now["mixed"], axis=-1, keepdims=True)
    close(found.head_similarity_BHH, np.einsum("bhts,bgts->btgh", unit, unit)[:, first:].mean(1))


def close(found: Tensor | None, expected: np.ndarray, tolerance: float = 1e-10) -> None:
    assert found is not None
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("block", [1, 7, 29, 64])
def test_the_block_size_changes_nothing(block: int) -> None:
    current, previous = layer(loop=3, T=50), layer(loop=2, T=50)
    options: dict[str, Any] = {"first_query": 3}
    whole = measure_attention(current, previous, block=50, **options)
    assert_same(measure_attention(current, previous, block=block, **options), whole, 1e-10)


def test_float32_stays_near_float64() -> None:
    precise = measure_attention(layer(loop=2), layer(loop=1))
    single = layer(loop=2, dtype=torch.float32), layer(loop=1, dtype=torch.float32)
    assert_same(measure_attention(*single), precise, 2e-5)
    half = layer(loop=2, dtype=torch.bfloat16), layer(loop=1, dtype=torch.bfloat16)
    assert_same(measure_attention(*half), precise, 0.1)  # the inputs themselves lose 16 bits


def test_grouped_heads_are_expanded_ones() -> None:
    grouped = layer(H=6, G=2)
    assert grouped.k_local_BTGK is not None
    expanded = LayerAttention(
        q_BTHK=grouped.q_BTHK,
        k_global_BTGK=grouped.k_global_BTGK.repeat_interleave(3, dim=2),
        k_local_BTGK=grouped.k_local_BTGK.repeat_interleave(3, dim=2),
        gate_BTH=grouped.gate_BTH,
        window=grouped.window,
    )
    assert_same(measure_attention(grouped, None), measure_attention(expanded, None), 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("gate", "branch"), [(1.0, "global"), (0.0, "local")])
def test_a_gate_at_its_end_leaves_one_branch(gate: float, branch: str, dtype: torch.dtype) -> None:
    found = maps(layer(gate=gate, dtype=dtype), slice(9, 25))
    one = getattr(found, f"{branch}_BHTS")
    torch.testing.assert_close(found.mixed_BHTS, one, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gate", [0.0, 1.0])
@pytest.mark.parametrize("direction", ["to_previous", "from_previous"])
def test_shift_is_finite_where_maps_underflow(
    gate: float, direction: Any, dtype: torch.dtype
) -> None:
    current = layer(loop=3, dtype=dtype, scale=600.0)  # scores thousands apart
    previous = layer(loop=2, dtype=dtype, scale=600.0, gate=gate)
    assert (maps(previous, slice(20, 30)).mixed_BHTS[..., :21] == 0).any()
    found = measure_attention(current, previous, shift_direction=direction).shift_BH
    assert found is not None
    assert found.isfinite().all()
    assert (found > 1).all()


@pytest.mark.parametrize("block", [3, 99])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gate_of_0_counts_as_the_smallest_normal_number(dtype: torch.dtype, block: int) -> None:
    T = 12
    everywhere = layer(T=T, scale=0.0, dtype=dtype, gate=1.0)
    self_only = layer(T=T, scale=0.0, dtype=dtype, gate=0.0, window=1)
    found = measure_attention(everywhere, self_only, block=block).shift_BH
    # Of n keys, n - 1 keep the smallest number's share of their 1 / n, and one gets the rest.
    lost = -math.log(torch.finfo(dtype).tiny)
    expected = sum((n - 1) / n * lost - math.log(n) / n for n in range(1, T + 1)) / T
    torch.testing.assert_close(found, torch.full((2, 4), expected).double(), rtol=1e-6, atol=0)


def test_shift_of_maps_that_underflow_is_exact() -> None:
    def two_keys(score: float) -> LayerAttention:
        q, k = torch.zeros(1, 2, 1, 1), torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
        q[0, 1] = score  # the second query gives the second key this logit, the first key 0
        return LayerAttention(q_BTHK=q, k_global_BTGK=k, window=9)

    shift = measure_attention(two_keys(-200.0), two_keys(200.0), first_query=1).shift_BH
    torch.testing.assert_close(shift, torch.tensor([[200.0]]).double())


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_maps_are_distributions_over_what_a_query_sees(data: st.DataObject) -> None:
    T, window = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 9))
    start = data.draw(st.integers(0, T - 1))
    queries = slice(start, data.draw(st.integers(start + 1, T)))
    attention = layer(T=T, window=window)
    found, whole = maps(attention, queries), dense(attention)
    for kind in ("global", "local", "mixed"):
        each = getattr(found, f"{kind}_BHTS")
        close(each, whole[kind][:, :, queries], tolerance=1e-12)
        close(each.sum(-1), np.ones(each.shape[:-1]), tolerance=1e-12)


def test_in_loop_1_the_mixed_map_is_the_only_one() -> None:
    found = maps(layer(loop=1), slice(None))
    assert found.local_BHTS is None
    assert found.mixed_BHTS is found.global_BHTS
    measured = measure_attention(layer(loop=1), None)
    assert measured.entropy_local_BH is None
    assert torch.equal(measured.entropy_mixed_BH, measured.entropy_global_BH)


def test_gradients_are_those_of_the_measures() -> None:
    """An experiment may ask what would change a shift or an entropy: no step cuts the graph."""
    shape: dict[str, Any] = {"B": 1, "T": 6, "H": 2, "G": 1, "K": 2, "window": 3}
    current, previous = layer(**shape), layer(**shape, loop=1)

    def measured(q_BTHK: Tensor) -> tuple[Tensor | None, Tensor]:
        changed = LayerAttention(**{**vars(current), "q_BTHK": q_BTHK})
        found = measure_attention(changed, previous, block=4)
        return found.shift_BH, found.entropy_mixed_BH

    assert torch.autograd.gradcheck(measured, current.q_BTHK.requires_grad_())


@pytest.mark.parametrize("from_hidden_states", [True, False])
def test_maps_are_those_of_the_real_model(from_hidden_states: bool) -> None:
    """g A_global V^1 + (1 - g) A_local V^r is what each output projection is given."""
    B, T = 2, 21
    model = small_model(
        plt_num_loops=3, plt_gate_use_hidden_states=from_hidden_states
    ).double()  # a window of 5 keys
    asked: list[tuple[LayerAttention, Tensor, Tensor]] = []
    given_to_projection: list[Tensor] = []

    def before_attention(module: Any, inputs: tuple[Any, ...]) -> None:
        q_NHK, residual_ND, rows, kv = inputs
        k_global, v_global = kv.shared.first_loop[module.index]
        k_own, v_own = kv.own[module.index]
        later = rows.later == 0
        gate_NH = module.plt_gate(residual_ND, q_NHK)
        attention = LayerAttention(
            q_BTHK=q_NHK.unflatten(0, (B, T)),
            k_global_BTGK=k_global,
            k_local_BTGK=k_own if later else None,
            gate_BTH=gate_NH.unflatten(0, (B, T)) if later else None,
            window=kv.shared.window,
        )
        asked.append((attention, v_global, v_own))

    for one in model.model.layers:
        one.self_attn.register_forward_pre_hook(before_attention)
        one.self_attn.o_proj.register_forward_pre_hook(
            lambda _, inputs: given_to_projection.append(inputs[0])
        )
    with torch.no_grad():
        model(torch.randint(256, (B, T), generator=torch.Generator().manual_seed(3)))

    assert len(asked) == len(given_to_projection) == 3 * 2  # loops x layers
    for (attention, v_global, v_own), y_ND in zip(asked, given_to_projection, strict=True):
        found = maps(attention, slice(None))
        y_BTHK = _read(found.global_BHTS, v_global)
        if found.local_BHTS is not None:
            assert attention.gate_BTH is not None
            g = attention.gate_BTH.unsqueeze(-1)
            y_BTHK = g * y_BTHK + (1 - g) * _read(found.local_BHTS, v_own)
        torch.testing.assert_close(y_BTHK.flatten(0, 1).flatten(1), y_ND, rtol=0, atol=1e-10)


def _read(map_BHTS: Tensor, v_BSGK: Tensor) -> Tensor:
    v_BSHK = v_BSGK.repeat_interleave(map_BHTS.shape[1] // v_BSGK.shape[2], dim=2)
    return torch.einsum("bhts,bshk->bthk", map_BHTS, v_BSHK)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q_BTHK": torch.zeros(2, 30, 24)}, r"q_BTHK has shape \(2, 30, 24\); expected 4 axes"),
        ({"q_BTHK": torch.zeros(2, 30, 3, 6)}, "3 query heads read 2 key heads"),
        ({"k_global_BTGK": torch.zeros(2, 29, 2, 6)}, "k_global_BTGK has shape"),
        ({"k_local_BTGK": torch.zeros(2, 30, 4, 6)}, "k_local_BTGK has shape"),
        ({"gate_BTH": torch.zeros(2, 4, 30)}, "gate_BTH has shape"),
        ({"gate_BTH": None}, "belong together"),
        ({"window": 0}, "window is 0; it must be at least 1"),
    ],
)
def test_what_does_not_belong_together_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        LayerAttention(**{**vars(layer()), **change})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": 0}, "block is 0"),
        ({"first_query": 30}, r"first_query is 30; expected 0\.\.29"),
        ({"first_query": -1}, "first_query is -1"),
        ({"shift_branch": "local"}, "shift_branch is 'local'; choose one of 'mixed', 'global'"),
        ({"shift_direction": "up"}, "shift_direction is 'up'"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        measure_attention(layer(), None, **options)


def test_loops_of_different_shapes_are_refused() -> None:
    with pytest.raises(RequestError, match="previous loop has shape"):
        measure_attention(layer(), layer(T=29))


@pytest.mark.parametrize("queries", [slice(0, 0), slice(30, 40), slice(0, 9, 2)])
def test_queries_must_be_a_run(queries: slice) -> None:
    with pytest.raises(RequestError, match=r"expected a run of positions within 0\.\.29"):
        maps(layer(), queries)
