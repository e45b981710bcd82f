"""A prepared model is the plain one: fused float products, and quantised ones."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from loopcoder.checkpoint.load import load_model
from loopcoder.checkpoint.save import save_model
from loopcoder.kernels.grouped import quantize
from loopcoder.kernels.linear import prepare
from loopcoder.model.config import ModelConfig
from loopcoder.model.plt import PLT
from loopcoder.model.products import fuse, install, linear_groups, products
from loopcoder.model.shapes import tensor_shapes

CONFIG = ModelConfig(
    vocab_size=96,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    plt_window_size=(4, 0),
)
CONFIGS = {
    "two loops": CONFIG,
    "one loop": CONFIG.with_(plt_num_loops=1),
    "three loops, tied head": CONFIG.with_(plt_num_loops=3, tie_word_embeddings=True),
    "query gate": CONFIG.with_(plt_gate_use_hidden_states=False),
}
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 2e-2}  # of the logits' norm


def make_model(config: ModelConfig, dtype: torch.dtype = torch.float32) -> PLT:
    generator = torch.Generator().manual_seed(0)
    model = PLT(config).eval().to(dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                std = 1.0 if parameter.dim() == 1 else parameter.shape[-1] ** -0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
    return model


def logits(model: PLT) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(torch.arange(40).view(2, 20)).logits
    return found


def assert_close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    assert (found - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_a_fused_model_computes_the_same(config: ModelConfig, dtype: torch.dtype) -> None:
    model = make_model(config, dtype)
    plain = logits(model)
    fuse(model)
    assert_close(logits(model).float(), plain.float(), TOLERANCE[dtype])


def test_fusing_keeps_the_state_dict_and_holds_nothing_twice() -> None:
    model = make_model(CONFIG)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fuse(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    stored = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in after.values()}
    assert sum(stored.values()) == sum(tensor.nbytes for tensor in before.values())
    attention = model.model.layers[0].get_submodule("self_attn")
    q, v = (attention.get_parameter(f"{name}_proj.weight") for name in "qv")
    assert q.untyped_storage().data_ptr() == v.untyped_storage().data_ptr()


def test_a_tied_head_stays_the_embedding() -> None:
    model = make_model(CONFIGS["three loops, tied head"])
    fuse(model)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_a_fused_model_is_saved_as_ever(tmp_path: Path) -> None:
    model = make_model(CONFIG)
    expected = logits(model)
    fuse(model)
    saved = load_model(save_model(model, CONFIG, tmp_path / "saved"))
    assert torch.equal(logits(saved), expected)


def test_every_matrix_is_in_one_product() -> None:
    model = make_model(CONFIG, torch.bfloat16)
    assert products(model) == {}
    fuse(model)
    found = products(model)
    fuse(model)  # again: changes nothing
    assert products(model) == found
    assert list(found)[:4] == [
        "model.layers.0.self_attn.qkv",
        "model.layers.0.self_attn.o_proj",
        "model.layers.0.mlp.gate_up",
        "model.layers.0.mlp.down_proj",
    ]
    weights = [name for group in linear_groups(CONFIG) for name in group.weights]
    shapes = tensor_shapes(CONFIG)
    matrices = {name for name, shape in shapes.items() if len(shape) == 2 and "gate." not in name}
    assert set(weights) == matrices - {"model.embed_tokens.weight"}
    assert sum(p.nbytes for p in found.values()) == sum(
        2 * shapes[name][0] * shapes[name][1] for name in weights
    )


@pytest.mark.parametrize(("kernel", "tolerance"), [("torch", 1e-4), (None, 5e-2)])
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("config", [CONFIG, CONFIGS["query gate"]], ids=["hidden", "query"])
def test_a_quantised_model_is_the_one_with_dequantised_weights(
    monkeypatch: pytest.MonkeyPatch,
    config: ModelConfig,
    bits: int,
    kernel: str | None,
    tolerance: float,
) -> None:
    """Native kernels round their inputs to 8 bits too, 0.55 % of each product's norm."""
    monkeypatch.setattr("loopcoder.model.products.prepare", partial(prepare, name=kernel))
    model, plain = make_model(config), make_model(config)
    for group in linear_groups(config):
        weights = [quantize(model.get_parameter(name).detach(), bits, 32) for name in group.weights]
        for name, weight in zip(group.weights, weights, strict=True):
            plain.get_parameter(name).data = weight.dequantize(torch.float32)
        install(model, group, weights)
    left = {name for name, _ in model.named_parameters()}
    quantised = {name for group in linear_groups(config) for name in group.weights}
    assert left == set(tensor_shapes(config)) - quantised
    assert_close(logits(model), logits(plain), tolerance)
    holders = products(model)
    fuse(model)  # finds nothing to do
    assert products(model) == holders
