"""Initial weights: the same for every loop count, with the sizes that the recipe names."""

import math
from pathlib import Path

import pytest
import torch

from loopcoder.model.plt import PLT
from loopcoder.train.initial import set_initial_weights
from loopcoder.train.plan import make_plan
from loopcoder.train.recipe import Init
from loopcoder.train.run import build_model
from tests.train.train_helpers import tiny_recipe, write_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data") / "shards")


def weights(shards: Path, *assignments: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(torch.initial_seed() + 1)  # the global generator must not matter
    return build_model(make_plan(tiny_recipe(*assignments), shards)).state_dict()


def test_loop_counts_start_alike(shards: Path) -> None:
    one, two, three = (weights(shards, f"model.plt_num_loops={loops}") for loops in (1, 2, 3))
    assert two.keys() == three.keys()
    assert all(torch.equal(two[name], three[name]) for name in two)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert all("plt_gate" in name for name in two.keys() - one.keys())


def test_seeds_differ(shards: Path) -> None:
    first, second = weights(shards), weights(shards, "init.seed=1")
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(first[name], second[name])
    assert not torch.equal(first[name], first[name.replace("up", "gate")])


def test_gates_start_half_open_and_norms_at_one(shards: Path) -> None:
    for name, tensor in weights(shards).items():
        if "gate_norm" in name or "layernorm" in name or name == "model.norm.weight":
            assert torch.equal(tensor, torch.ones_like(tensor)), name
        elif "plt_gate" in name:
            assert not tensor.any(), name


@pytest.mark.parametrize("scale_residual", [False, True])
def test_sizes_are_the_recipes(shards: Path, scale_residual: bool) -> None:
    recipe = tiny_recipe("model.hidden_size=256", "model.tie_word_embeddings=false")
    model = PLT(make_plan(recipe, shards).shape)
    init = Init(std=0.03, embedding_std=0.7, scale_residual=scale_residual)
    set_initial_weights(model, init, layers=2)
    state = model.state_dict()
    smaller = 0.03 / math.sqrt(4) if scale_residual else 0.03
    for name, expected in {
        "model.embed_tokens.weight": 0.7,
        "lm_head.weight": 0.03,
        "model.layers.1.self_attn.q_proj.weight": 0.03,
        "model.layers.1.self_attn.o_proj.weight": smaller,
        "model.layers.1.mlp.down_proj.weight": smaller,
    }.items():
        assert state[name].std().item() == pytest.approx(expected, rel=0.05), name
