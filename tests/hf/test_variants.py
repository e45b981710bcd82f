"""Variants of the architecture in the transformers classes: files, text, gradients."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from loopcoder.checkpoint.load import load_model
from loopcoder.errors import ConfigError, RequestError
from loopcoder.model.config import VARIANT_FIELDS
from loopcoder.train.initial import set_initial_weights
from loopcoder.train.recipe import Init
from tests.model.configs import VARIANTS, variant_name
from tests.small import small_config, small_model

each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=variant_name)
TOKENS = torch.arange(3, 15)[None]


def test_the_released_architecture_writes_the_released_fields() -> None:
    config = small_config()
    assert not set(VARIANT_FIELDS) & config.to_dict().keys()
    assert not any(name in config.to_json_string() for name in VARIANT_FIELDS)


@pytest.mark.parametrize("plain", [False, True])
def test_what_was_saved_is_loaded(tmp_path: Path, plain: bool) -> None:
    """By transformers and by our own reader: the same variant, the same numbers."""
    model = small_model(plt_loop_offset=0, plt_gated_window=False)
    model.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert {name: values[name] for name in VARIANT_FIELDS if name in values} == {
        "plt_loop_offset": 0,
        "plt_gated_window": False,
    }
    again = load_model(tmp_path) if plain else AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(again(TOKENS).logits, model(TOKENS).logits, rtol=0, atol=0)


@each_variant
def test_generate_needs_no_cache(variant: dict[str, Any]) -> None:
    model = small_model(**variant).double()
    tokens = TOKENS
    for _ in range(6):
        tokens = torch.cat([tokens, model(tokens).logits[:, -1:].argmax(-1)], dim=1)
    found = model.generate(TOKENS, max_new_tokens=6, do_sample=False, eos_token_id=None)
    assert found.tolist() == tokens.tolist()


def test_a_cache_that_is_asked_for_is_refused() -> None:
    model = small_model(plt_loop_offset=0)
    wrong = "use_cache.*released architecture only.*plt_loop_offset 0;"
    with pytest.raises(RequestError, match=wrong):
        model.generate(TOKENS, max_new_tokens=2, use_cache=True)
    with pytest.raises(RequestError, match=wrong):
        model(TOKENS, use_cache=True)


def test_one_loop_has_nothing_to_vary() -> None:
    """So its cache is the released one."""
    model = small_model(plt_num_loops=1, plt_loop_offset=0, plt_share_kv=False).double()
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    cached, slow = (model.generate(TOKENS, use_cache=use, **options) for use in (True, False))
    assert cached.tolist() == slow.tolist()


@pytest.mark.parametrize(
    "fields",
    [
        *VARIANTS,
        {"plt_emb_scale": 0.0},
        {"plt_hidden_scale": 1.0, "plt_normalize_per_loop": False},
        {"plt_window_size": [0, 0], "plt_gate_use_hidden_states": False},
    ],
    ids=str,
)
def test_every_weight_learns_with_and_without_recomputing(fields: dict[str, Any]) -> None:
    gradients = []
    for recompute in (False, True):
        model = small_model(plt_num_loops=3, **fields).double().train()
        if recompute:
            name = "activation_checkpointing_enable"
            (getattr(model, name, None) or model.gradient_checkpointing_enable)()
        model(TOKENS, labels=TOKENS).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient is not None, name
        assert gradient.isfinite().all(), name
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize(
    ("field", "value"),
    [("plt_loop_offset", 2), ("plt_loop_offset", True), ("plt_share_kv", 1)],
)
def test_impossible_variants_are_named(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{field} is {value}; it must be"):
        small_config(**{field: value})


def test_variants_begin_with_the_same_weights() -> None:
    def initial(**fields: Any) -> dict[str, torch.Tensor]:
        model = small_model(plt_num_loops=3, **fields)
        set_initial_weights(model, Init(), layers=2)
        return model.state_dict()

    released = initial()
    for variant in VARIANTS:
        for name, weight in initial(**variant).items():
            torch.testing.assert_close(weight, released[name], rtol=0, atol=0, msg=name)
