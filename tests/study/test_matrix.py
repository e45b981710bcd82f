"""Which models a study trains, and that they differ in nothing but what they should."""

import pytest

from loopcoder.errors import TrainingError
from loopcoder.study.matrix import cells, settings_of, training_recipe, trials
from loopcoder.study.tune import choose
from tests.study.recipes import tiny

ARMS = [
    {"name": "plt"},
    {
        "name": "serial",
        "loops": [2],
        "seeds": [3],
        "set": {"model.plt_loop_offset": 0, "optim.peak_lr": 0.5},
    },
]
TUNE = {
    "steps": 2,
    "seed": 9,
    "grid": {"optim.peak_lr": [0.1, 0.2], "model.plt_hidden_scale": [0.3, 0.4, 0.5]},
}
STUDY = tiny(arms=ARMS, tune=TUNE)


def test_every_loop_count_has_one_model_before_any_has_two() -> None:
    assert [cell.name for cell in cells(STUDY)] == [
        "plt-R1-s0",
        "plt-R2-s0",
        "serial-R2-s3",
        "plt-R1-s1",
        "plt-R2-s1",
    ]


def test_models_of_a_seed_differ_in_their_loops_alone() -> None:
    one, two = (
        training_recipe(STUDY, cell, {}).record() for cell in cells(STUDY) if cell.seed == 0
    )
    assert {key for key in one if one[key] != two[key]} == {"name", "model"}
    assert {key for key in one["model"] if one["model"][key] != two["model"][key]} == {
        "plt_num_loops"
    }


def test_a_seed_decides_weights_order_and_draws() -> None:
    cell = cells(STUDY)[3]
    record = training_recipe(STUDY, cell, {}).record()
    assert [record[section]["seed"] for section in ("init", "data", "run")] == [1, 1, 1]


def test_one_loop_is_not_tried_with_what_only_later_loops_have() -> None:
    tried = {loops: [t.settings for t in trials(STUDY) if t.loops == loops] for loops in (1, 2)}
    assert tried[1] == [{"optim.peak_lr": 0.1}, {"optim.peak_lr": 0.2}]
    assert len(tried[2]) == 6
    assert tried[2][0] == {"optim.peak_lr": 0.1, "model.plt_hidden_scale": 0.3}
    assert {trial.seed for trial in trials(STUDY)} == {9}


def test_trials_are_short_and_so_is_their_schedule() -> None:
    trial = trials(STUDY)[0]
    recipe = training_recipe(STUDY, trial, trial.settings, steps=2)
    assert (recipe.steps, recipe.optim.peak_lr, recipe.name) == (2, 0.1, "plt-R1-t0")


def summaries(losses: list[float | None]) -> dict[str, dict[str, dict[str, float]]]:
    return {
        trial.name: {"heldout": {"loss": loss}}
        for trial, loss in zip(trials(STUDY), losses, strict=True)
        if loss is not None
    }


def test_the_least_loss_wins_and_failed_trials_do_not() -> None:
    losses = [2.0, 1.5, None, 3.0, 2.5, 2.5, 4.0, 5.0]
    chosen = choose(trials(STUDY), summaries(losses))
    assert chosen == {
        ("plt", 1): {"optim.peak_lr": 0.2},
        ("plt", 2): {"optim.peak_lr": 0.1, "model.plt_hidden_scale": 0.5},
    }


def test_no_trial_that_ended_is_an_error() -> None:
    with pytest.raises(TrainingError, match="plt, 2 loops: every trial failed"):
        choose(trials(STUDY), summaries([1.0, 2.0, *[None] * 6]))


def test_other_arms_take_the_main_arms_settings_but_keep_their_own() -> None:
    chosen = {("plt", 2): {"optim.peak_lr": 0.1, "model.plt_hidden_scale": 0.5}}
    serial = cells(STUDY)[2]
    settings = settings_of(STUDY, serial, chosen)
    assert settings == {"model.plt_hidden_scale": 0.5}
    recipe = training_recipe(STUDY, serial, settings)
    assert recipe.optim.peak_lr == 0.5
    assert recipe.record()["model"]["plt_loop_offset"] == 0


def test_an_arm_may_be_tuned_by_itself() -> None:
    arms = [ARMS[0], {**ARMS[1], "tune": True}]
    own = [trial for trial in trials(tiny(arms=arms, tune=TUNE)) if trial.arm.name == "serial"]
    assert [trial.settings for trial in own] == [
        {"model.plt_hidden_scale": scale} for scale in (0.3, 0.4, 0.5)
    ]
