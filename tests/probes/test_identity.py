"""Hashes tell models apart, and bring together those that differ in looping only."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from loopcoder.checkpoint.identity import architecture_hash, checkpoint_hash
from loopcoder.checkpoint.save import save_model
from loopcoder.probes.identity import weights_hash
from tests.probes.models import CONFIG, source, tiny


def saved(path: Path, seed: int = 0, **fields: Any) -> Path:
    model = tiny(seed, **fields)
    return save_model(model.float().state_dict(), model.config, path)


def test_a_checkpoints_hash_is_of_weights_and_configuration(tmp_path: Path) -> None:
    one = saved(tmp_path / "one")
    hashes = {
        checkpoint_hash(one),
        checkpoint_hash(saved(tmp_path / "seed", seed=1)),
        checkpoint_hash(saved(tmp_path / "theta", rope_theta=10.0)),
    }
    assert len(hashes) == 3
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in hashes)
    copy = Path(shutil.copytree(one, tmp_path / "copy"))
    (copy / "README.md").write_text("what it is")
    assert checkpoint_hash(copy) == checkpoint_hash(one)


@pytest.mark.parametrize(
    "fields",
    [
        {"plt_num_loops": 1},
        {"plt_window_size": (8, 0)},
        {"plt_hidden_scale": None, "plt_gate_use_hidden_states": False},
        {"initializer_range": 0.5},
    ],
)
def test_looping_does_not_change_the_architecture(fields: dict[str, Any]) -> None:
    assert architecture_hash(CONFIG.with_(**fields)) == architecture_hash(CONFIG)


@pytest.mark.parametrize(
    "fields", [{"num_hidden_layers": 3}, {"vocab_size": 38}, {"tie_word_embeddings": True}]
)
def test_shape_changes_the_architecture(fields: dict[str, Any]) -> None:
    assert architecture_hash(CONFIG.with_(**fields)) != architecture_hash(CONFIG)


def test_weights_in_memory_have_a_hash_too() -> None:
    model = tiny()
    before = weights_hash(model)
    assert before == weights_hash(tiny())
    assert weights_hash(tiny().bfloat16()) != before
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1e-9
    assert weights_hash(model) != before
    assert weights_hash(tiny(plt_hidden_scale=0.5)) != weights_hash(tiny())


def test_a_source_says_what_was_measured() -> None:
    model = tiny(plt_num_loops=2).bfloat16()
    found = source(model).model
    assert found is not None
    assert (found.layers, found.heads, found.width, found.window) == (2, 4, 24, 5)
    assert (found.trained_loops, found.dtype) == (2, "bfloat16")
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert source(model).machine["threads"] == torch.get_num_threads()
