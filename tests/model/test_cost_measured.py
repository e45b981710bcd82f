"""The formulas of `model.cost` against what the real tensors and products take."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from loopcoder.cache.contiguous import CacheShape, ContiguousCache
from loopcoder.model import cost
from loopcoder.model.config import ModelConfig
from loopcoder.model.layout import plain_layout
from loopcoder.model.plt import PLT
from loopcoder.probes.taps import Taps
from tests.model.configs import VARIANTS, variant_name

CONFIG = ModelConfig(
    vocab_size=96,
    hidden_size=48,
    intermediate_size=80,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=16,
    plt_num_loops=3,
    plt_window_size=(4, 0),
)
T = 20


def _model(loops: int, **fields: object) -> PLT:
    torch.manual_seed(0)
    return PLT(CONFIG.with_(plt_num_loops=loops, **fields))


def _matrix_flops(counter: FlopCounterMode) -> int:
    """What torch counted in matrix products, attention kernels aside."""
    counts = counter.get_flop_counts()["Global"]
    return sum(n for op, n in counts.items() if "attention" not in str(op))


def _cache(loops: int, dtype: torch.dtype) -> ContiguousCache:
    shape = CacheShape(
        layers=CONFIG.num_hidden_layers,
        loops=loops,
        batch=1,
        groups=CONFIG.num_key_value_heads,
        head_dim=CONFIG.head_dim,
        window=CONFIG.window,
        dtype=dtype,
        device=torch.device("cpu"),
    )
    return ContiguousCache(shape)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("hidden_gate", [False, True])
@pytest.mark.parametrize("loops", [1, 2, 4])
def test_parameters_are_those_of_the_model(loops: int, hidden_gate: bool, tied: bool) -> None:
    model = _model(loops, plt_gate_use_hidden_states=hidden_gate, tie_word_embeddings=tied)
    assert cost.parameters(model.config).total == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("loops", [1, 2, 4])
def test_forward_flops_are_what_torch_counts(loops: int) -> None:
    model = _model(loops)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, T, dtype=torch.long))
    formula = cost.forward_flops(model.config, T)
    assert _matrix_flops(counter) == formula.linear + formula.head


@pytest.mark.parametrize("loops", [1, 2, 4])
def test_decode_flops_are_what_torch_counts(loops: int) -> None:
    model, cache = _model(loops), _cache(loops, torch.float32)
    embed = model.model.embed
    tokens = torch.zeros(1, T, dtype=torch.long)
    model.model.advance(embed(tokens), plain_layout(1, T, tokens.device), cache, loops)
    with FlopCounterMode(display=False) as counter:
        one = tokens[:, :1]
        layout = plain_layout(1, 1, tokens.device, past=T)
        model.lm_head(model.model.advance(embed(one), layout, cache, loops)[-1].h)
    formula = cost.decode_flops(model.config, T + 1)
    assert _matrix_flops(counter) == formula.linear + formula.head


def test_training_flops_are_three_forwards() -> None:
    model = _model(3)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, T, dtype=torch.long)).logits.sum().backward()
    formula = cost.training_flops(model.config, T)
    assert _matrix_flops(counter) == formula.linear + formula.head


@pytest.mark.parametrize("loops", [1, 2, 4])
def test_attention_flops_count_every_visible_key(loops: int) -> None:
    """Against the definition, pair by pair: 4 H K for each query and key that it sees."""
    pairs = sum(t + 1 for t in range(T)) * loops
    pairs += sum(min(t + 1, CONFIG.window) for t in range(T)) * (loops - 1)
    width = CONFIG.num_attention_heads * CONFIG.head_dim * CONFIG.num_hidden_layers
    assert cost.forward_flops(CONFIG, T, loops).attention == 4 * width * pairs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("loops", [1, 2, 4])
def test_memory_is_what_the_cache_takes(loops: int, dtype: torch.dtype) -> None:
    model, cache = _model(loops).to(dtype), _cache(loops, dtype)
    tokens = torch.zeros(1, T, dtype=torch.long)
    layout = plain_layout(1, T, tokens.device)
    model.model.advance(model.model.embed(tokens), layout, cache, loops)
    assert cache.first_loop_bytes == T * cost.kv_bytes_per_token(model.config, dtype.itemsize)
    assert cache.ring_bytes == cost.ring_bytes(model.config, loops, dtype.itemsize)
    assert cache.carried_RBD is not None
    assert cache.carried_RBD.nbytes == cost.carried_bytes(model.config, loops, dtype.itemsize)


@pytest.mark.parametrize("variant", VARIANTS, ids=variant_name)
def test_variants_cost_what_they_compute_and_keep(variant: dict[str, Any]) -> None:
    """Weights, products, visible keys, and the keys that global attention reads in full."""
    model = _model(3, **variant)
    assert cost.parameters(model.config).total == sum(p.numel() for p in model.parameters())
    with FlopCounterMode(display=False) as counter, Taps(model, keep=["attention"]) as taps:
        model(torch.zeros(1, T, dtype=torch.long))
    formula = cost.forward_flops(model.config, T)
    assert _matrix_flops(counter) == formula.linear + formula.head
    each = [layer for layers in taps.attention.values() for layer in layers]
    pairs = len(each) * T * (T + 1) // 2
    pairs += sum(min(t + 1, 5) for layer in each if layer.gate_BTH is not None for t in range(T))
    assert formula.attention == 4 * CONFIG.num_attention_heads * CONFIG.head_dim * pairs
    keys = {layer.k_global_BTGK.data_ptr(): layer.k_global_BTGK.nbytes for layer in each}
    assert 2 * sum(keys.values()) == T * cost.kv_bytes_per_token(model.config, 4)


@pytest.mark.parametrize("variant", [{}, *VARIANTS], ids=lambda v: variant_name(v) if v else "PLT")
def test_tails_are_what_the_last_logits_depend_on(variant: dict[str, Any]) -> None:
    """The earliest token of loop r that a gradient from the last position reaches, by layer."""
    model, T = _model(3, **variant).double(), 32
    with Taps(model, keep=["residual"], on={"residual": lambda x, site: x}) as taps:
        logits = model(torch.arange(T)[None]).logits
    for loop in (2, 3):
        found = torch.autograd.grad(logits[0, -1].sum(), taps.residual[loop], retain_graph=True)
        for layer, gradient_BTD in enumerate(found):
            reached = T - int(gradient_BTD[0].abs().amax(-1).nonzero()[0])
            shared = model.config.plt_share_kv
            tail = cost.tail_rows(model.config, 3, loop, layer) if shared else T
            assert reached == tail


def test_variants_keep_windows_and_states_only_if_they_need_them() -> None:
    def kept(**fields: Any) -> tuple[int, int]:
        config = CONFIG.with_(**fields)
        return cost.ring_bytes(config, dtype_bytes=1), cost.carried_bytes(config, dtype_bytes=1)

    ring, carried = kept()
    assert min(ring, carried) > 0
    assert kept(plt_loop_offset=0) == (ring, 0)
    assert kept(plt_share_kv=False) == (0, carried)  # its window lies within its own keys
    assert kept(plt_gated_window=False) == (0, carried)
