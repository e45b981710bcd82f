"""Random checkpoints: what a seed means, and how they are written."""

from pathlib import Path

import pytest
import torch

from loopcoder.checkpoint.changes import parse_changes, with_changes
from loopcoder.checkpoint.header import open_checkpoint
from loopcoder.checkpoint.init import init_checkpoint, random_tensor
from loopcoder.checkpoint.load import load_model, load_state
from loopcoder.errors import ConfigError
from tests.checkpoint.conftest import SMALL


def test_values_follow_the_recipe(tmp_path: Path) -> None:
    config = SMALL.with_(hidden_size=256, initializer_range=0.05)
    state = load_state(open_checkpoint(init_checkpoint(tmp_path / "m", config, dtype="f32")))
    for name, tensor in state.items():
        if name.endswith("norm.weight"):
            assert tensor.eq(1).all()
        elif "plt_gate" in name:
            assert tensor.eq(0).all()
        else:
            assert abs(tensor.mean()) < 0.005
            assert abs(tensor.std() - 0.05) < 0.003
    assert load_model(tmp_path / "m")(torch.arange(9)[None]).logits.isfinite().all()


def test_a_seed_and_a_name_make_the_values(tmp_path: Path) -> None:
    one = load_state(open_checkpoint(init_checkpoint(tmp_path / "1", SMALL, dtype="f32")))
    two = load_state(
        open_checkpoint(init_checkpoint(tmp_path / "2", SMALL, dtype="bf16", shard_size="9KB"))
    )
    assert len(list((tmp_path / "2").glob("*.safetensors"))) > 4
    assert all(torch.equal(one[name].bfloat16(), two[name]) for name in one)
    other = load_state(open_checkpoint(init_checkpoint(tmp_path / "3", SMALL, seed=1)))
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(other[name], two[name])
    assert not torch.equal(two[name], two["model.layers.1.mlp.up_proj.weight"])


def test_values_are_the_same_everywhere() -> None:
    found = random_tensor("a", (2, 2), dtype=torch.float32, std=1.0, seed=3)
    again = random_tensor("a", (4,), dtype=torch.float64, std=1.0, seed=3)
    assert torch.equal(found.double().flatten(), again)


def test_tokenizer_files_come_from_the_source(tmp_path: Path) -> None:
    source = init_checkpoint(tmp_path / "source", SMALL)
    (source / "tokenizer.json").write_text("{}")
    copy = init_checkpoint(tmp_path / "copy", SMALL, source=source)
    assert (copy / "tokenizer.json").read_text() == "{}"


def test_changes_are_json_or_text() -> None:
    changes = parse_changes(["plt_num_loops=4", "plt_window_size=[8,0]", "plt_emb_scale=null"])
    assert changes == {"plt_num_loops": 4, "plt_window_size": [8, 0], "plt_emb_scale": None}
    changed = with_changes(SMALL, changes)
    assert (changed.plt_num_loops, changed.window, changed.emb_scale) == (4, 9, 1.0)


@pytest.mark.parametrize(
    ("assignment", "named"),
    [
        ("layers=3", "layers"),
        ("plt_num_loops", "field=value"),
        ("plt_num_loops=0", "plt_num_loops"),
        ("plt_num_loops=two", "plt_num_loops"),
        ("plt_window_size=3", "plt_window_size"),
        ("=3", "field=value"),
    ],
)
def test_wrong_changes_are_named(assignment: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        with_changes(SMALL, parse_changes([assignment]))
