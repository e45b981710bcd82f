"""A study of a trained model: converted to each loop count, it goes on from what it was."""

from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from loopcoder.errors import ConfigError
from loopcoder.train.data.tokenizer import save_tokenizer
from loopcoder.train.depth import byte_tokenizer
from tests.study.recipes import TINY, rows, run, tiny

pytestmark = pytest.mark.slow

TRAIN = {name: section for name, section in TINY["train"].items() if name != "model"}


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    folder = tmp_path / "llama"
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=265,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=64,
        )
    ).save_pretrained(folder)
    save_tokenizer(byte_tokenizer(), folder)
    return folder


def test_every_loop_count_begins_near_the_model_that_it_comes_from(llama: Path) -> None:
    out = llama.parent / "study"
    study = tiny("base.source='llama'", "study.seeds=[0]", train=TRAIN)
    result = run(study, out)
    starts = []
    for name in ("plt-R1-s0", "plt-R2-s0"):
        (training, *_) = rows(out / "records" / name / "study.jsonl")
        starts.append(training["start_bits_per_byte"])
        assert training["bits_per_byte"] != training["start_bits_per_byte"]
        recipe = result.summaries[name]["recipe"]
        assert recipe["model"]["start_from"].startswith(str(out / "base" / name[4:6]))
    assert starts[0] == pytest.approx(starts[1], abs=0.02)
    assert starts[0] != starts[1]


def test_what_an_arm_sets_of_the_model_reaches_the_conversion(llama: Path) -> None:
    arms = [{"name": "plt", "loops": [2], "set": {"model.plt_hidden_scale": 0.5}}]
    study = tiny("base.source='llama'", "study.seeds=[0]", train=TRAIN, arms=arms)
    result = run(study, llama.parent / "study")
    assert result.summaries["plt-R2-s0"]["shape"]["plt_hidden_scale"] == 0.5


def test_a_package_that_is_not_installed(tmp_path: Path) -> None:
    study = tiny("base.source='{no_such_package}'", train=TRAIN)
    with pytest.raises(ConfigError, match=r"no Python package no_such_package .*pip install no-"):
        run(study, tmp_path / "study")
