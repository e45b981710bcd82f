"""What a study recipe may say (docs/study.md explains the fields)."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from loopcoder.depth.question import MAX_HOPS, MODES, Mode
from loopcoder.depth.tasks import TASKS
from loopcoder.errors import ConfigError
from loopcoder.train.settings import Section, check, find_recipe, override, read_toml

PAGE = "docs/study.md"
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Value = str | bool | int | float | list[int]
Fields = dict[str, Value]  # of a training recipe, by dotted name: {"optim.peak_lr": 1e-3}
NAME = r"^[A-Za-z0-9._]+$"


class Arm(Section):
    """A kind of model: `set` is what differs from the study's training recipe.

    The first arm is the main one, whose models are compared by their loop counts. `loops` and
    `seeds` are the study's if not given. `tune` tries the grid on this arm too; otherwise it takes
    what was best for the main arm at the same loop count, and never what `set` fixes.
    """

    name: str = Field(pattern=NAME)
    loops: tuple[Count, ...] | None = None
    seeds: tuple[Seed, ...] | None = None
    set: Fields = Field(default_factory=dict)
    tune: bool = False


class Corpus(Section):
    """Text: a data recipe that `loopcoder data build` understands, built into the study."""

    recipe: str = Field(min_length=1)


class Depth(Section):
    """Generated tasks (`loopcoder.depth`) with up to `hops` hops in training."""

    tasks: tuple[str, ...] = tuple(TASKS)
    modes: tuple[Mode, ...] = MODES
    hops: Annotated[int, Field(ge=1, le=MAX_HOPS)] = 8
    tokens: Count
    heldout: Count = 2000
    seed: Seed = 0


class Folder(Section):
    """A data directory that is there already."""

    path: str = Field(min_length=1)


class Base(Section):
    """A Llama-family model that every arm goes on from, converted to its loop count.

    `source` is a checkpoint directory or a .gguf file; `{PACKAGE}` stands for the .gguf file
    that an installed Python package of that name carries.
    """

    source: str = Field(min_length=1)


class Tune(Section):
    """Short trainings, one for each combination of `grid`, before the real ones.

    The combination with the least held-out loss is taken. Fields of loops (`model.plt_...`) are
    left out at one loop, which they do not touch.
    """

    steps: Count
    seed: Seed = 0
    grid: dict[str, list[Value]] = Field(min_length=1)


class Evaluate(Section):
    """What finished models are asked: generated questions, and the diagnostics of `probe`.

    `questions` of each task, mode and count in `hops`; `samples` of `length` tokens. `attention`
    maps are measured for the first seed of each loop count, as they take most of the time.
    """

    hops: tuple[Annotated[int, Field(ge=1, le=MAX_HOPS)], ...] = (1, 2, 3, 4, 6, 8, 12, 16)
    questions: Count = 100
    seed: Seed = 1
    samples: Annotated[int, Field(ge=0)] = 64
    length: Annotated[int, Field(ge=2)] = 512
    attention: bool = True


class Sweep(Section):
    """Loop counts and seeds."""

    loops: tuple[Count, ...] = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)


class StudyRecipe(Section):
    """A whole study. `train` is a training recipe (docs/training.md) without what the study sets.

    The study sets the data, the loop count, the three seeds and the checkpoint to go on from.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    study: Sweep
    corpus: Corpus | None = None
    depth: Depth | None = None
    folder: Folder | None = None
    base: Base | None = None
    train: dict[str, dict[str, Any]]
    arms: tuple[Arm, ...] = (Arm(name="plt"),)
    tune: Tune | None = None
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="after")
    def _belongs_together(self) -> "StudyRecipe":
        given = [name for name in ("corpus", "depth", "folder") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"{' and '.join(given) or 'no table'} given for the data; give one of [corpus], "
                "[depth] and [folder]"
            )
        names = [arm.name for arm in self.arms]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"arms are named {names}; give one or more, of different names")
        for section, field in (("model", "plt_num_loops"), ("data", "shards"), ("data", "seed")):
            if field in self.train.get(section, {}):
                raise ValueError(f"train.{section}.{field} is given; the study sets it")
        if self.base is not None and "model" in self.train:
            raise ValueError("train.model is given; [base] says what the models are")
        return self

    def loops_of(self, arm: Arm) -> tuple[int, ...]:
        """The loop counts that an arm is trained for."""
        return arm.loops or self.study.loops

    def seeds_of(self, arm: Arm) -> tuple[int, ...]:
        """The seeds that an arm is trained with."""
        return arm.seeds or self.study.seeds


def load_study(name: str | Path, assignments: Iterable[str] = ()) -> tuple[StudyRecipe, Path]:
    """Read a study recipe, or the bundled one of that name, and apply `section.key=value`.

    Returns the file too: paths in a recipe are relative to it. Raises `ConfigError`.
    """
    path = find_recipe(name)
    values = read_toml(path)
    if "study" not in values:
        raise ConfigError(f"{path}: has no [study] table; give a study recipe ({PAGE})")
    return check(
        StudyRecipe, override({"name": path.stem, **values}, assignments), str(path), PAGE
    ), path
