"""Which models a study trains, and the training recipe of each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from loopcoder.study.recipe import PAGE, Arm, Fields, StudyRecipe, Value
from loopcoder.train.recipe import TrainRecipe
from loopcoder.train.settings import check


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A model: what it is, how many loops, which seed."""

    arm: Arm
    loops: int
    seed: int

    @property
    def name(self) -> str:
        """Names its directories."""
        return f"{self.arm.name}-R{self.loops}-s{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Trial(Cell):
    """A short training that tries `settings`."""

    number: int
    settings: Fields

    @property
    def name(self) -> str:
        """Names its directory."""
        return f"{self.arm.name}-R{self.loops}-t{self.number}"


Chosen = Mapping[tuple[str, int], Fields]  # by arm and loop count


def cells(study: StudyRecipe) -> list[Cell]:
    """All models, seeds last: every loop count has one model before any has two."""
    found = [
        Cell(arm=arm, loops=loops, seed=seed)
        for arm in study.arms
        for loops in study.loops_of(arm)
        for seed in study.seeds_of(arm)
    ]
    return sorted(found, key=lambda cell: study.seeds_of(cell.arm).index(cell.seed))


def trials(study: StudyRecipe) -> list[Trial]:
    """All settings to try, for the main arm and those that are tuned by themselves."""
    tune = study.tune
    if tune is None:
        return []
    tuned = [arm for arm in study.arms if arm is study.arms[0] or arm.tune]
    return [
        Trial(arm=arm, loops=loops, seed=tune.seed, number=number, settings=settings)
        for arm in tuned
        for loops in study.loops_of(arm)
        for number, settings in enumerate(_settings(tune.grid, arm, loops))
    ]


def _settings(grid: Mapping[str, list[Any]], arm: Arm, loops: int) -> Iterator[Fields]:
    fields = [name for name in grid if _is_tried(name, arm, loops)]
    for values in product(*(grid[name] for name in fields)):
        yield dict(zip(fields, values, strict=True))


def _is_tried(field: str, arm: Arm, loops: int) -> bool:
    return field not in arm.set and (loops > 1 or not field.startswith("model.plt_"))


def settings_of(study: StudyRecipe, cell: Cell, chosen: Chosen) -> Fields:
    """What tuning found for a model: its own arm's choice, or the main arm's."""
    main = study.arms[0].name
    found = chosen.get((cell.arm.name, cell.loops), chosen.get((main, cell.loops), {}))
    return {name: value for name, value in found.items() if name not in cell.arm.set}


def training_recipe(
    study: StudyRecipe,
    cell: Cell,
    settings: Fields,
    *,
    start_from: str | None = None,
    steps: int | None = None,
) -> TrainRecipe:
    """What a model is trained by: the study's recipe, the arm's and the tuned fields, the seed.

    Models of one seed see the same data in the same order and begin with the same weights.
    `steps` cuts the training short, its schedule with it. Raises `ConfigError` naming the field.
    """
    values: dict[str, Any] = {name: dict(section) for name, section in study.train.items()}
    _put(values, settings)
    _put(values, cell.arm.set)
    if start_from is None:
        _put(values, {"model.plt_num_loops": cell.loops})
    else:
        values["model"] = {"start_from": start_from}
    seeds = {"init.seed": cell.seed, "data.seed": cell.seed, "run.seed": cell.seed}
    _put(values, seeds if steps is None else seeds | {"run.steps": steps})
    values["name"] = cell.name
    return check(TrainRecipe, values, f"study {study.name}, {cell.name}", PAGE)


def model_fields(study: StudyRecipe, cell: Cell, settings: Fields) -> dict[str, Any]:
    """The fields of the model's configuration that a cell sets, for `convert`."""
    values: dict[str, Any] = {}
    _put(values, settings)
    _put(values, cell.arm.set)
    model: dict[str, Any] = values.get("model", {})
    return model


def _put(values: dict[str, Any], fields: Mapping[str, Value]) -> None:
    for name, value in fields.items():
        *sections, field = name.split(".")
        table = values
        for section in sections:
            table = table.setdefault(section, {})
        table[field] = value
