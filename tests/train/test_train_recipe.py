"""Recipes: every bundled one loads, every mistake is one line that names the key."""

from pathlib import Path

import pytest

from loopcoder.errors import ConfigError
from loopcoder.model.config import ModelConfig
from loopcoder.train.recipe import FREE, StartFrom, bundled_recipes, load_recipe
from loopcoder.train.settings import override
from tests.train.train_helpers import TINY, tiny_recipe

RELEASED_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "tie_word_embeddings",
    "initializer_range",
    "plt_num_loops",
    "plt_window_size",
    "plt_emb_scale",
    "plt_hidden_scale",
    "plt_normalize_per_loop",
    "plt_gate_use_hidden_states",
)


@pytest.mark.parametrize("name", bundled_recipes())
def test_bundled_recipes_load(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert isinstance(recipe.model, ModelConfig)
    assert recipe.steps >= 1
    assert recipe.accumulation * recipe.run.micro_batch == recipe.batch_windows


def test_the_bundled_recipes_are_the_expected_ones() -> None:
    assert {"nano", "nano_r1", "train_smoke"} <= set(bundled_recipes())


def test_nano_and_its_twin_differ_in_loops_alone() -> None:
    two, one = (load_recipe(name).record() for name in ("nano", "nano_r1"))
    assert two["model"].pop("plt_num_loops") == 2
    assert one["model"].pop("plt_num_loops") == 1
    assert {**two, "name": ""} == {**one, "name": ""}


def test_defaults_are_the_papers() -> None:
    optim = tiny_recipe("optim.peak_lr=4e-4").optim
    assert (optim.betas, optim.eps, optim.weight_decay, optim.clip) == ((0.9, 0.95), 1e-15, 0.1, 1)
    assert (optim.peak_lr, optim.warmup) == (4e-4, 0.05)


def test_what_is_not_asked_of_loops_is_not_recorded() -> None:
    """Recipes recorded before these fields were there stay the same."""
    recipe = tiny_recipe("loops.sample=[]", "loops.loss=last", "model.plt_share_kv=true")
    assert recipe.record() == tiny_recipe().record()
    assert list(recipe.record()) == ["name", "model", "init", "data", "optim", "run"]
    assert list(recipe.record()["model"]) == list(RELEASED_FIELDS)
    elastic = tiny_recipe("loops.sample=[1, 2]", "model.plt_share_kv=false").record()
    assert elastic["loops"] == {"sample": [1, 2], "loss": "last"}
    assert elastic["model"]["plt_share_kv"] is False


def test_overrides_are_typed() -> None:
    recipe = tiny_recipe(
        "optim.peak_lr=1e-3",
        "run.bf16=true",
        "model.plt_window_size=[4, 0]",
        "data.shards=some/dir",
    )
    assert recipe.optim.peak_lr == 1e-3
    assert recipe.run.bf16 is True
    assert isinstance(recipe.model, ModelConfig)
    assert recipe.model.plt_window_size == (4, 0)
    assert recipe.data.shards == "some/dir"


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("optim.peak_lr=fast", r"optim\.peak_lr is 'fast': .*number"),
        ("optim.peak_lr=0", r"optim\.peak_lr is 0: .*greater than 0"),
        ("optim.peak_lr=inf", r"optim\.peak_lr"),
        ("optim.learning_rate=1", r"unknown key optim\.learning_rate"),
        ("run.bf16=1", r"run\.bf16 is 1: .*boolean"),
        ("run.steps=1.5", r"run\.steps is 1\.5: .*integer"),
        ("run.micro_batch=3", r"run\.micro_batch is 3; it must divide the 8 sequences"),
        ("run.batch_tokens=100", r"run\.batch_tokens is 100; it must be a multiple"),
        ("model.head_dim=7", r"head_dim is 7; RoPE"),
        ("model.heads=7", r"unknown key model\.heads"),
        ("model.tie_word_embeddings=1", r"model\.tie_word_embeddings is 1: .*boolean"),
        ("optim.betas=[0.9]", r"optim\.betas\.1 is missing|optim\.betas"),
        ("loops.sample=[1, 3]", r"loops\.sample is \[1, 3\], and the model has 2 loops; give "),
        ("loops.sample=[1]", r"loops\.sample is \[1\], .* and 2 among them"),
        ("loops.sample=[1, 1, 2]", r"loops\.sample is \[1, 1, 2\], .*different counts"),
        ("loops.sample=[0, 2]", r"loops\.sample\.0 is 0: .*greater than or equal to 1"),
        ("loops.loss=all", r"loops\.loss is 'all'"),
        ("run.final_dtype=int8", r"run\.final_dtype is 'int8'"),
        ("peak_lr", r"--set peak_lr: write it like"),
        ("name.x=1", r"--set name\.x=1: name is a value"),
    ],
)
def test_mistakes_name_the_key(assignment: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        tiny_recipe(assignment)
    assert "\n" not in str(caught.value)


def test_missing_keys_are_named() -> None:
    values = override(TINY, [])
    del values["model"]["head_dim"]
    with pytest.raises(ConfigError, match=r"model\.head_dim is missing"):
        tiny_recipe_from(values)
    with pytest.raises(ConfigError, match=r"run\.steps is missing"):
        tiny_recipe_from({**TINY, "run": {"batch_tokens": 96, "micro_batch": 2}})


def tiny_recipe_from(values: dict[str, object]) -> object:
    from loopcoder.train.recipe import PAGE, TrainRecipe
    from loopcoder.train.settings import check

    return check(TrainRecipe, values, "tiny.toml", PAGE)


def test_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: no such recipe file; bundled are .*nano"):
        load_recipe("nowhere")
    broken = tmp_path / "broken.toml"
    broken.write_text("[model\n")
    with pytest.raises(ConfigError, match=r"broken\.toml: not a TOML file"):
        load_recipe(broken)
    broken.write_text("colour = 1\n")
    with pytest.raises(ConfigError, match=r"broken\.toml: .*"):
        load_recipe(broken)


def test_a_file_takes_its_name_from_the_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = Path("loopcoder/recipes/train_smoke.toml")
    path.write_text((Path(__file__).parents[2] / text).read_text())
    assert load_recipe(path).name == "mine"


def test_a_checkpoint_may_be_the_start() -> None:
    recipe = tiny_recipe_from({**TINY, "model": {"start_from": "some/dir"}})
    assert recipe.model == StartFrom(start_from="some/dir")  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"unknown key model\.hidden_size"):
        tiny_recipe_from({**TINY, "model": {"start_from": "some/dir", "hidden_size": 3}})


def test_tokens_round_up_to_steps() -> None:
    values = override(TINY, ["run.max_tokens=385"])
    del values["run"]["steps"]
    assert tiny_recipe_from(values).steps == 2  # type: ignore[attr-defined]


def test_fields_free_on_resume_exist() -> None:
    recipe = tiny_recipe()
    for field in FREE - {"name"}:
        section, name = field.split(".")
        assert name in type(getattr(recipe, section)).model_fields
