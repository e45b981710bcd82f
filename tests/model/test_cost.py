"""The analytic counters against SPEC.md's figures, the tensor list and counting one by one."""

import math

import pytest

from loopcoder.model import cost
from loopcoder.model.config import ModelConfig
from loopcoder.model.presets import loopcoder_v2
from loopcoder.model.shapes import tensor_shapes

SMALL = ModelConfig(
    vocab_size=11,
    hidden_size=6,
    intermediate_size=10,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=4,
    plt_window_size=(2, 0),
)


def test_released_model_has_the_figures_of_the_spec() -> None:
    config = loopcoder_v2()
    count = cost.parameters(config)
    assert count.total == 7_615_749_680  # "7.61 B" cuts the digits off
    assert round(count.gates / 1e6, 2) == 2.94
    assert cost.kv_bytes_per_token(config) == 57_344
    assert cost.ring_bytes(config, 2) == 3_727_360
    assert cost.ring_bytes(config, 4) == 3 * 3_727_360
    assert cost.kv_bytes(config, 4500, 2) == 4500 * 57_344 + 3_727_360
    assert cost.carried_bytes(config, 3) == 2 * 5120 * 2
    assert cost.tail_rows(config, 2, 2, 0) == 897


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("loops", [1, 2, 3])
@pytest.mark.parametrize("hidden_gate", [False, True])
def test_parameters_are_the_tensors(tied: bool, loops: int, hidden_gate: bool) -> None:
    config = SMALL.with_(
        tie_word_embeddings=tied, plt_num_loops=loops, plt_gate_use_hidden_states=hidden_gate
    )
    shapes = tensor_shapes(config)
    count = cost.parameters(config)
    assert count.total == sum(math.prod(shape) for shape in shapes.values())
    assert count.gates == sum(math.prod(s) for n, s in shapes.items() if "plt_gate" in n)
    assert count.norms == sum(
        math.prod(s) for n, s in shapes.items() if "norm" in n and "plt_gate" not in n
    )


def counted_one_by_one(config: ModelConfig, tokens: int, loops: int) -> tuple[int, int]:
    """Linear and attention FLOPs of the serial schedule: a sum over rows, layers and keys."""
    H, K, D = config.num_attention_heads, config.head_dim, config.hidden_size
    linear = attention = 0
    for loop in range(1, loops + 1):
        for name, shape in tensor_shapes(config.with_(plt_num_loops=1)).items():
            if name.startswith("model.layers.") and len(shape) == 2:
                linear += 2 * tokens * math.prod(shape)
        if loop > 1:
            width = D if config.plt_gate_use_hidden_states else K
            linear += 2 * tokens * config.num_hidden_layers * H * width
        for position in range(tokens):
            keys = position + 1
            if loop > 1:
                keys += len(range(max(0, position - config.plt_window_size[0]), position + 1))
            attention += config.num_hidden_layers * H * keys * 2 * (2 * K)
    return linear, attention


@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("loops", [1, 2, 4])
@pytest.mark.parametrize("window", [(0, 0), (2, 0), (64, 0)])
def test_full_prefill_is_the_sum_over_rows(
    tokens: int, loops: int, window: tuple[int, int]
) -> None:
    config = SMALL.with_(plt_window_size=window)
    flops = cost.prefill_flops(config, tokens, loops, tail=False)
    assert (flops.linear, flops.attention) == counted_one_by_one(config, tokens, loops)
    assert flops.head == 2 * 6 * 11
    assert cost.forward_flops(config, tokens, loops).head == tokens * 2 * 6 * 11


@pytest.mark.parametrize("loops", [1, 2, 3])
def test_decoding_a_token_is_what_it_adds_to_a_full_prefill(loops: int) -> None:
    for context in (1, 2, 3, 8):
        longer = cost.forward_flops(SMALL, context, loops)
        shorter = cost.forward_flops(SMALL, context - 1, loops)
        added = cost.decode_flops(SMALL, context, loops)
        assert shorter + added == longer


def test_tail_prefill_is_full_for_short_prompts_and_constant_beyond_loop_one() -> None:
    def extra(tokens: int, loops: int) -> cost.Flops:
        tail = cost.prefill_flops(SMALL, tokens, loops)
        one = cost.prefill_flops(SMALL, tokens, 1)
        return cost.Flops(
            linear=tail.linear - one.linear,
            attention=tail.attention - one.attention,
            head=tail.head - one.head,
        )

    assert cost.prefill_flops(SMALL, 1, 3) == cost.prefill_flops(SMALL, 1, 3, tail=False)
    assert extra(100, 3).linear == extra(1000, 3).linear
    assert extra(1000, 3).head == 0
    rows = cost.prefill_flops(SMALL, 1000, 3).linear / cost.prefill_flops(SMALL, 1000, 1).linear
    assert rows < 1.03


def test_tails_add_up_from_the_last_loop() -> None:
    reach, L = 2, 3
    assert cost.tail_rows(SMALL, 3, 3, L) == 1
    assert cost.tail_rows(SMALL, 3, 3, 0) == reach * L + 1
    # Loop 3 reads loop 2 at its own tail shifted by one, and at the last position carried on.
    assert cost.tail_rows(SMALL, 3, 2, L) == cost.tail_rows(SMALL, 3, 3, 0) + 1
    assert cost.tail_rows(SMALL, 3, 2, 0) == 2 * (reach * L + 1)


def test_training_is_three_forwards_and_checkpointing_one_more_of_the_layers() -> None:
    forward = cost.forward_flops(SMALL, 8)
    plain = cost.training_flops(SMALL, 8)
    again = cost.training_flops(SMALL, 8, checkpointing=True)
    assert plain == forward * 3
    assert again.total - plain.total == forward.linear + forward.attention
    assert again.head == plain.head
