"""Study recipes: the bundled ones describe models that exist, mistakes name their key."""

from pathlib import Path

import pytest

from loopcoder.errors import ConfigError
from loopcoder.study.matrix import cells, settings_of, training_recipe, trials
from loopcoder.study.recipe import load_study
from loopcoder.train.settings import find_recipe
from tests.study.recipes import tiny

BUNDLED = ["study_depth", "study_smoke", "study_smollm", "study_text"]


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_recipes_make_training_recipes(name: str) -> None:
    study, path = load_study(name)
    assert study.name == path.stem
    start = None if study.base is None else "somewhere"
    for cell in cells(study):
        recipe = training_recipe(study, cell, settings_of(study, cell, {}), start_from=start)
        assert recipe.name == cell.name
    for trial in trials(study):
        recipe = training_recipe(study, trial, trial.settings, steps=study.tune.steps)  # type: ignore[union-attr]
        assert recipe.steps < training_recipe(study, trial, trial.settings).steps


def test_every_bundled_study_is_in_the_list() -> None:
    folder = find_recipe("study_smoke").parent
    found = [path.stem for path in folder.glob("*.toml") if "[study]" in path.read_text()]
    assert sorted(found) == BUNDLED


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        ("study.loops=[]", r"study\.loops"),
        ("study.loops=[0]", r"study\.loops\.0 is 0"),
        ("study.lops=[1]", r"unknown key study\.lops"),
        ("depth.hops=17", r"depth\.hops is 17"),
        ("depth.modes=['aloud']", r"depth\.modes\.0 is 'aloud'"),
        ("folder.path='x'", r"depth and folder given for the data"),
        ("train.model.plt_num_loops=2", r"train\.model\.plt_num_loops is given; the study sets it"),
        ("train.data.seed=2", r"train\.data\.seed is given"),
        ("base.source='x'", r"train\.model is given; \[base\] says"),
        ("arms=[]", r"arms are named \[\]"),
        ("arms=[{name='a'}, {name='a'}]", r"arms are named \['a', 'a'\]"),
        ("arms=[{name='a/b'}]", r"arms\.0\.name is 'a/b'"),
        ("tune.steps=3", r"tune\.grid is missing"),
    ],
)
def test_mistakes_are_one_line_that_names_the_key(assignment: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as error:
        tiny(assignment)
    assert "\n" not in str(error.value)


def test_no_data_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="no table given for the data; give one of"):
        tiny(depth=None)


def test_a_training_recipe_is_no_study() -> None:
    with pytest.raises(ConfigError, match=r"train_smoke\.toml: has no \[study\] table"):
        load_study("train_smoke")


def test_a_field_of_training_that_does_not_exist_is_named(tmp_path: Path) -> None:
    study = tiny(arms=[{"name": "odd", "set": {"model.plt_speed": 3}}])
    with pytest.raises(ConfigError, match=r"odd-R1-s0: unknown key model\.plt_speed"):
        training_recipe(study, cells(study)[0], {})
