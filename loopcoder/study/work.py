"""One model from a recipe to its records. Each step is left out where it is done already."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from loopcoder.errors import TrainingError
from loopcoder.model.config import ModelConfig
from loopcoder.study.matrix import Cell
from loopcoder.train.directory import difference
from loopcoder.train.plan import make_plan
from loopcoder.train.recipe import PAGE, TrainRecipe
from loopcoder.train.records import RECIPE_FILE, SUMMARY_FILE, read_json
from loopcoder.train.run import build_model, train
from loopcoder.train.settings import check
from loopcoder.train.windows import Collator

LOG_FILE = "log.txt"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A model to train in `out`, and to measure into `records` (None: a trial, only trained).

    `main` says that it is of the study's main arm, `first` that it is the first seed of its loop
    count. `log` sends what training says to a file.
    """

    study: str
    cell: Cell
    recipe: TrainRecipe
    settings: dict[str, Any]
    data: Path
    out: Path
    records: Path | None = None
    main: bool = True
    first: bool = True
    log: bool = True

    def __getstate__(self) -> dict[str, Any]:
        """For another process: recipes hold a class that pickle does not find again."""
        return vars(self) | {"recipe": self.recipe.record()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As it was before `__getstate__`."""
        recipe = check(TrainRecipe, state["recipe"], state["recipe"]["name"], PAGE)
        vars(self).update(state | {"recipe": recipe})

    @property
    def arm(self) -> str | None:
        """The arm's name as records have it: none for the main one."""
        return None if self.main else self.cell.arm.name

    @property
    def shape(self) -> ModelConfig:
        """The model's, known once data and checkpoint are there."""
        return make_plan(self.recipe, self.data).shape


def summary_of(job: Job) -> dict[str, Any] | None:
    """The summary of a training that is finished; None if it is not.

    Raises `TrainingError` if another recipe or other data made what is there.
    """
    if not (job.out / SUMMARY_FILE).is_file():
        return None
    summary = read_json(job.out / SUMMARY_FILE)
    now = make_plan(job.recipe, job.data).record()
    found = difference({key: summary.get(key) for key in now}, now)
    if found is not None:
        field, was, is_ = found
        raise TrainingError(
            f"{job.out}: was trained with {field} {was!r}, the study says {is_!r}; give another "
            "--out, or the recipe and data that it was trained with"
        )
    return summary


def train_model(job: Job) -> dict[str, Any] | None:
    """Train or go on; the summary, or None if a signal stopped it."""
    done = summary_of(job)
    if done is not None:
        return done
    resume = (job.out / RECIPE_FILE).is_file()
    with _logged(job):
        return train(job.recipe, out=job.out, data=job.data, resume=resume).summary


@contextmanager
def _logged(job: Job) -> Iterator[None]:
    if not job.log:
        yield
        return
    job.out.parent.mkdir(parents=True, exist_ok=True)
    with job.out.with_suffix(f".{LOG_FILE}").open("a", encoding="utf-8") as file:
        before, sys.stderr = sys.stderr, file
        try:
            yield
        finally:
            sys.stderr = before


def seconds_of(job: Job) -> float:
    """How long the training will take, from one micro-batch of it that is timed now."""
    recipe = job.recipe
    if recipe.run.threads is not None:
        torch.set_num_threads(recipe.run.threads)
    plan = make_plan(recipe, job.data)
    model = build_model(plan).train()
    model.to(plan.device)
    windows = [plan.windows[i] for i in range(recipe.run.micro_batch)]
    batch = Collator(plan.shards.bos_id, plan.shards.answers)(windows)
    batch = {name: x.to(plan.device) for name, x in batch.items()}

    def once() -> float:
        begin = perf_counter()
        with torch.autocast(plan.device.type, dtype=torch.bfloat16, enabled=recipe.run.bf16):
            loss = model(**batch).loss
        loss.backward()
        loss.item()
        return perf_counter() - begin

    once()  # the first one allocates and compiles
    return once() * recipe.accumulation * recipe.steps
