"""Taps: what they show is what the model computes, and what they change changes the model."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from loopcoder.errors import RequestError
from loopcoder.hf import IQuestPLTCoderForCausalLM
from loopcoder.model.layout import plain_layout, shift
from loopcoder.probes import Site, Taps
from tests.probes.models import tiny, tokens
from tests.small import small_model

EVERYTHING = ("embedding", "residual", "gate", "attention", "u", "h")
CLOSE = 1e-10  # float64


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def transformers_model(**fields: Any) -> IQuestPLTCoderForCausalLM:
    return small_model(plt_num_loops=3, **fields).double()


def equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("per_loop_norm", [True, False])
def test_kept_states_are_those_the_model_returns(per_loop_norm: bool) -> None:
    model = tiny(plt_normalize_per_loop=per_loop_norm)
    with Taps(model) as taps:
        states = model.model(tokens(batch=2))
    assert taps.loops == 3
    assert sorted(taps.u) == sorted(taps.h) == [0, 1, 2, 3]
    assert sorted(taps.gate) == [2, 3]
    assert taps.residual == taps.attention == {}
    assert torch.equal(taps.u[0], model.model.embed(tokens(batch=2)))
    assert torch.equal(taps.h[0], taps.u[0])
    for r, state in enumerate(states, 1):
        assert torch.equal(taps.u[r], state.u)
        assert torch.equal(taps.h[r], state.h)


def test_residuals_are_the_loops_inputs_and_gates_follow_from_them() -> None:
    model = tiny()
    with Taps(model, keep=EVERYTHING) as taps:
        model(tokens(batch=2))
    E, layout = taps.u[0], plain_layout(2, 12, torch.device("cpu"))
    assert torch.equal(taps.residual[1][0], E)
    for r in (2, 3):
        equal(taps.residual[r][0], 0.8 * E + 0.6 * shift(taps.h[r - 1], layout))
        for index, layer in enumerate(model.model.layers):
            gate = layer.self_attn.plt_gate
            expected = gate(taps.residual[r][index].flatten(0, 1), torch.empty(0))
            equal(taps.gate[r][index], expected.view(2, 12, 4))
    assert {r: len(seen) for r, seen in taps.attention.items()} == {1: 2, 2: 2, 3: 2}
    assert taps.attention[1][0].gate_BTH is None
    assert taps.attention[2][1].gate_BTH is taps.gate[2][1]


def test_every_wrapping_of_the_model_is_tapped_alike() -> None:
    """The PLT, its PLTModel, and the transformers class, called by the user's own code."""
    model = tiny()
    with Taps(model) as one:
        model(tokens())
    with Taps(model.model) as two:
        model.model(tokens())
    other = transformers_model()
    with Taps(other) as three:
        out = other(tokens(), output_loop_states=True)
    for r in (1, 2, 3):
        assert torch.equal(one.h[r], two.h[r])
        assert torch.equal(three.h[r], out.loop_hidden_states[r - 1])
    with pytest.raises(RequestError, match="were given a Linear; give a PLT"):
        Taps(nn.Linear(2, 2))


def test_fewer_and_more_loops_than_the_models_own() -> None:
    model = tiny(plt_num_loops=2)
    for loops in (1, 4):
        with Taps(model) as taps:
            model(tokens(), num_loops=loops)
        assert taps.loops == loops
        assert sorted(taps.h) == [*range(loops + 1)]
        assert sorted(taps.gate) == [*range(2, loops + 1)]
    with Taps(tiny(plt_num_loops=1), keep=EVERYTHING) as taps:
        taps.model(tokens())
    assert taps.gate == {}
    assert len(taps.attention[1]) == 2


def test_hooks_are_gone_after_the_block() -> None:
    model = tiny()
    with Taps(model, keep=EVERYTHING):
        assert hooks(model) > 0
    assert hooks(model) == 0

    def interrupt(value: Tensor, site: Site) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Taps(model, on={"gate": interrupt}):
        model(tokens())
    assert hooks(model) == 0
    with Taps(model) as taps:
        before = model(tokens()).logits
    kept = taps.h[3]
    assert torch.equal(model(tokens()).logits, before)
    assert taps.h[3] is kept


def test_a_second_pass_replaces_the_first() -> None:
    model = tiny()
    with Taps(model, keep=EVERYTHING) as taps:
        model(tokens(9, seed=0))
        model(tokens(12, seed=1, batch=2), num_loops=2)
    assert taps.loops == 2
    assert sorted(taps.h) == [0, 1, 2]
    with Taps(model, keep=EVERYTHING) as alone:
        model(tokens(12, seed=1, batch=2), num_loops=2)
    for r in (1, 2):
        assert torch.equal(taps.h[r], alone.h[r])
        assert len(taps.residual[r]) == len(taps.attention[r]) == 2


@pytest.mark.parametrize("padded_left", [True, False])
def test_padded_samples_are_seen_as_if_alone(padded_left: bool) -> None:
    model, long, short = tiny(), tokens(12, seed=1), tokens(7, seed=2)
    real = slice(5, 12) if padded_left else slice(0, 7)
    token_BT, mask_BT = torch.zeros(2, 12, dtype=torch.long), torch.zeros(2, 12, dtype=torch.long)
    token_BT[0], mask_BT[0] = long, 1
    token_BT[1, real], mask_BT[1, real] = short, 1
    with Taps(model) as taps:
        model(token_BT, attention_mask=mask_BT)
    for b, alone, rows in ((0, long, slice(0, 12)), (1, short, real)):
        with Taps(model) as one:
            model(alone)
        for r in (1, 2, 3):
            equal(taps.u[r][b, rows], one.u[r][0])
            equal(taps.h[r][b, rows], one.h[r][0])
        for layer in (0, 1):
            equal(taps.gate[2][layer][b, rows], one.gate[2][layer][0])


def test_packed_documents_are_seen_as_if_alone() -> None:
    model, first, second = tiny(), tokens(5, seed=1), tokens(7, seed=2)
    positions = torch.tensor([[*range(5), *range(7)]])
    with Taps(model) as taps:
        model(torch.cat([first, second], dim=1), position_ids=positions)
    for alone, rows in ((first, slice(0, 5)), (second, slice(5, 12))):
        with Taps(model) as one:
            model(alone)
        equal(taps.u[3][:, rows], one.u[3])
        equal(taps.gate[3][1][:, rows], one.gate[3][1])


def test_attention_of_padded_samples_is_refused() -> None:
    """Its maps would be of other documents' keys too."""
    model, mask = tiny(), torch.ones(2, 12, dtype=torch.long)
    mask[1, :4] = 0
    with (
        pytest.raises(RequestError, match="without padding"),
        Taps(model, keep=("attention",)),
    ):
        model(tokens(batch=2), attention_mask=mask)


@pytest.mark.parametrize("loops", [2, 3])
@pytest.mark.parametrize("keep", [("u",), ("gate",), EVERYTHING])
def test_decoding_with_a_cache_is_refused(loops: int, keep: tuple[str, ...]) -> None:
    model = transformers_model()
    options = {"max_new_tokens": 3, "do_sample": False, "num_loops": loops}
    with (
        pytest.raises(RequestError, match="taps watch whole forward passes"),
        Taps(model, keep=keep),
    ):
        model.generate(tokens(), use_cache=True, **options)
    assert hooks(model) == 0
    with Taps(model, keep=("h",)) as taps:
        text = model.generate(tokens(), use_cache=False, **options)
    assert taps.loops == loops
    assert taps.h[loops].shape == (1, text.shape[1] - 1, 32)


def test_an_edit_of_h_is_what_the_next_loop_reads() -> None:
    """Against the loops run by hand with the edited state."""
    model, inner = tiny(), tiny().model
    change = torch.randn(1, 12, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def edit(h_BTD: Tensor, site: Site) -> Tensor | None:
        return h_BTD + change if site.loop == 1 else None

    plain = model(tokens())
    with Taps(model, on={"h": edit}) as taps:
        edited = model(tokens())
    equal(taps.h[1], plain.loop_states[0] + change)
    assert torch.equal(edited.loop_states[0], taps.h[1])

    def mixed_by_hand(residual: Tensor, site: Site) -> Tensor | None:
        if (site.loop, site.layer) != (2, 0):
            return None
        layout = plain_layout(1, 12, torch.device("cpu"))
        before = shift(plain.loop_states[0] + change, layout)
        return inner.mix(inner.embed(tokens()), before)

    with Taps(model, on={"residual": mixed_by_hand}):
        by_hand = model(tokens())
    assert torch.equal(by_hand.loop_states[0], plain.loop_states[0])
    for r in (2, 3):
        equal(edited.loop_states[r - 1], by_hand.loop_states[r - 1])
        assert (edited.loop_states[r - 1] - plain.loop_states[r - 1]).abs().max() > 1e-3


def test_an_edit_of_u_passes_through_the_norm() -> None:
    model = tiny(plt_normalize_per_loop=False)
    with Taps(model, on={"u": lambda u, site: 2 * u if site.loop == 2 else None}) as taps:
        states = model.model(tokens())
    plain = model.model(tokens())
    assert torch.equal(states[1].u, taps.u[2])
    equal(taps.u[2], 2 * plain[1].u)
    equal(states[1].h, model.model.norm(2 * plain[1].u))
    assert (states[2].u - plain[2].u).abs().max() > 1e-3


def test_an_edit_of_the_embedding_reaches_every_loop() -> None:
    model = tiny()
    other = tokens(seed=5)
    with Taps(model, on={"embedding": lambda E, site: model.model.embed_tokens.weight[other]}) as t:
        found = model(tokens())
    expected = model(other)
    for one, two in zip(found.loop_states, expected.loop_states, strict=True):
        equal(one, two)
    equal(t.u[0], model.model.embed(other))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_gate_of_one_reads_loop_ones_memory_only_and_zero_none_of_it(value: float) -> None:
    """As gates that a bias shuts or opens for good."""
    model, by_bias = tiny(), tiny()
    with torch.no_grad():
        for layer in by_bias.model.layers:
            layer.self_attn.plt_gate.weight.zero_()
            layer.self_attn.plt_gate.bias.fill_(60.0 if value else -800.0)
    with Taps(model, on={"gate": lambda g, site: torch.full_like(g, value)}) as taps:
        found = model(tokens())
    expected = by_bias(tokens())
    assert (taps.gate[2][0] == value).all()
    for one, two in zip(found.loop_states, expected.loop_states, strict=True):
        equal(one, two)
    assert (found.logits - model(tokens()).logits).abs().max() > 1e-3


@pytest.mark.parametrize("site", ["embedding", "residual", "gate", "u", "h"])
def test_a_value_of_another_shape_is_refused(site: str) -> None:
    model = tiny()
    for wrong in (lambda x, _: x[:, :-1], lambda x, _: x.flatten(0, 1), lambda x, _: 0.5):
        with (
            pytest.raises(RequestError, match=f"tap on {site} returned"),
            Taps(model, on={site: wrong}),
        ):
            model(tokens())
        assert hooks(model) == 0


def test_taps_are_called_in_the_models_order() -> None:
    model, seen = tiny(plt_num_loops=2, num_hidden_layers=1), []

    def note(value: Any, site: Site) -> None:
        seen.append(site)

    with Taps(model, keep=(), on=dict.fromkeys(EVERYTHING, note)) as taps:
        model(tokens())
    first = [Site("residual", 1, 0), Site("attention", 1, 0), Site("u", 1), Site("h", 1)]
    later = [Site("residual", 2, 0), Site("gate", 2, 0), Site("attention", 2, 0)]
    assert seen == [Site("embedding", 0), *first, *later, Site("u", 2), Site("h", 2)]
    assert taps.u == taps.h == taps.gate == {}


def test_unknown_sites_are_refused_by_name() -> None:
    for wrong in ({"keep": ("hidden",)}, {"on": {"hidden": lambda x, s: None}}):
        with pytest.raises(RequestError, match="no tap is called 'hidden'; there are: embedding"):
            Taps(tiny(), **wrong)  # type: ignore[arg-type]


def test_gradients_flow_through_what_is_kept() -> None:
    """Of Δp's kind of number, to the embedding and through the first loop's state."""
    model = tiny()
    with Taps(model) as taps:
        model(tokens())
    taps.h[1].retain_grad()
    (taps.u[3] - taps.u[2]).square().sum().backward()
    grad = model.model.embed_tokens.weight.grad
    assert grad is not None
    assert grad[tokens()].abs().min() > 0
    assert taps.gate[2][0].requires_grad
    assert model.model.layers[0].self_attn.plt_gate.weight.grad.abs().max() > 0


def test_gradients_flow_through_an_edit() -> None:
    model = tiny()
    strength = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)

    def loss(value: Tensor) -> Tensor:
        with Taps(model, on={"h": lambda h, s: value * h if s.loop == 1 else None}):
            return model(tokens()).logits.square().mean()

    (slope,) = torch.autograd.grad(loss(strength), strength)
    with torch.no_grad():
        step = 1e-5
        numeric = (loss(strength + step) - loss(strength - step)) / (2 * step)
    assert slope.item() == pytest.approx(numeric.item(), rel=1e-6)
