"""What a training recipe may say (fields explained in docs/training.md, numbers in SPEC.md 4)."""

import math
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic.dataclasses import dataclass as checked_dataclass

from loopcoder.model.config import ModelConfig
from loopcoder.train.settings import Section, check, find_recipe, override, read_toml

PAGE = "docs/training.md"
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]

if TYPE_CHECKING:
    Shape = ModelConfig
else:
    Shape = checked_dataclass(
        ModelConfig, frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True)
    )


class StartFrom(Section):
    """Go on from a checkpoint directory: its shape and its weights."""

    start_from: str = Field(min_length=1)


def _kind(value: object) -> str:
    continued = isinstance(value, StartFrom) or (isinstance(value, dict) and "start_from" in value)
    return "<start_from>" if continued else "<shape>"


class Init(Section):
    """Standard deviations of the initial weights; gates start at g = 0.5 (SPEC.md section 4).

    `scale_residual` divides those of `o_proj` and `down_proj` by sqrt(2 L).
    """

    std: float = Field(default=0.02, gt=0)
    embedding_std: float = Field(default=0.02, gt=0)
    scale_residual: bool = False
    seed: int = Field(default=0, ge=0)


class Data(Section):
    """Token shards (relative to the working directory) and how they are cut."""

    shards: str | None = None
    sequence_length: int = Field(ge=2)
    seed: int = Field(default=0, ge=0)


class Optim(Section):
    """AdamW, linear warm-up and cosine; the defaults are the paper's (SPEC.md section 4).

    `warmup` is a share of the steps, `min_lr_ratio` of the peak; `clip` bounds the gradient norm.
    """

    peak_lr: float = Field(default=4e-4, gt=0)
    min_lr_ratio: float = Field(default=0.1, ge=0, le=1)
    warmup: Share = 0.05
    betas: tuple[Share, Share] = (0.9, 0.95)
    eps: float = Field(default=1e-15, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    clip: float = Field(default=1.0, gt=0)


class Loops(Section):
    """How the loops are trained, where it is not as released: R loops, loss on the last.

    Each step runs a loop count drawn from `sample` (empty: the model's own); `loss` "every" is
    the mean over loops of the cross-entropy of lm_head(h^r) against the same labels.
    """

    sample: tuple[Count, ...] = ()
    loss: Literal["last", "every"] = "last"

    def problem(self, own: int) -> str | None:
        """What is wrong with `sample` for a model of `own` loops; None if nothing."""
        sample = self.sample
        if not sample or (max(sample) == own and len(set(sample)) == len(sample)):
            return None
        return (
            f"loops.sample is {list(sample)}, and the model has {own} loops; give different counts "
            f"up to {own}, and {own} among them"
        )


class Run(Section):
    """How long, how large, on what, and what is written when (intervals in steps).

    `steps` comes before `max_tokens`. `batch_tokens` make one step; `micro_batch` sequences go
    through the model at once.
    """

    steps: Count | None = None
    max_tokens: Count | None = None
    batch_tokens: Count
    micro_batch: Count
    seed: int = Field(default=0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    bf16: bool = True
    gradient_checkpointing: bool = False
    compile: bool = False
    threads: Count | None = None
    workers: int = Field(default=0, ge=0)
    log_every: Count = 10
    eval_every: Count = 250
    save_every: Count = 250
    keep: Count = 2
    eval_windows: Count = 64
    final_eval_windows: Count | None = None
    final_dtype: Literal["bfloat16", "float32"] = "bfloat16"
    tensorboard: bool = True


# Fields that may differ when a run is resumed: they change neither data, weights nor schedule.
FREE = frozenset({
    "name",
    "data.shards",
    "run.device",
    "run.micro_batch",
    "run.gradient_checkpointing",
    "run.compile",
    "run.threads",
    "run.workers",
    "run.log_every",
    "run.eval_every",
    "run.save_every",
    "run.keep",
    "run.eval_windows",
    "run.final_eval_windows",
    "run.final_dtype",
    "run.tensorboard",
})  # fmt: skip


class TrainRecipe(Section):
    """A whole recipe: what is trained, on what, how, and for how long."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    model: Annotated[
        Annotated[Shape, Tag("<shape>")] | Annotated[StartFrom, Tag("<start_from>")],
        Discriminator(_kind),
    ]
    init: Init = Init()
    data: Data
    optim: Optim = Optim()
    loops: Loops = Loops()
    run: Run

    @model_validator(mode="after")
    def _sizes_fit(self) -> "TrainRecipe":
        run, length = self.run, self.data.sequence_length
        if run.steps is None and run.max_tokens is None:
            raise ValueError("run.steps is missing; give it, or run.max_tokens")
        if run.batch_tokens % length:
            raise ValueError(
                f"run.batch_tokens is {run.batch_tokens}; it must be a multiple of "
                f"data.sequence_length, {length}"
            )
        if self.batch_windows % run.micro_batch:
            raise ValueError(
                f"run.micro_batch is {run.micro_batch}; it must divide the {self.batch_windows} "
                "sequences of a step (run.batch_tokens / data.sequence_length)"
            )
        if isinstance(self.model, ModelConfig):
            problem = self.loops.problem(self.model.plt_num_loops)
            if problem is not None:
                raise ValueError(problem)
        return self

    @property
    def batch_windows(self) -> int:
        """Sequences in one optimizer step."""
        return self.run.batch_tokens // self.data.sequence_length

    @property
    def accumulation(self) -> int:
        """Micro-batches in one optimizer step."""
        return self.batch_windows // self.run.micro_batch

    @property
    def steps(self) -> int:
        """Optimizer steps; `max_tokens` is rounded up to whole ones."""
        if self.run.steps is not None:
            return self.run.steps
        return math.ceil((self.run.max_tokens or 0) / self.run.batch_tokens)

    @property
    def warmup_steps(self) -> int:
        """Steps of linear warm-up."""
        return math.ceil(self.optim.warmup * self.steps)

    def record(self) -> dict[str, Any]:
        """Everything the recipe says, as JSON values."""
        # Without `loops` at its default: runs that began before it was there go on.
        unsaid = {"loops"} if self.loops == Loops() else set()
        values = self.model_dump(mode="json", exclude={"model", *unsaid})
        model = self.model
        shape = shape_record(model) if isinstance(model, ModelConfig) else model.model_dump()
        return {"name": self.name, "model": shape, **values}


def shape_record(shape: ModelConfig) -> dict[str, Any]:
    """The fields of a shape as JSON values."""
    return shape.to_mapping() | {"plt_window_size": list(shape.plt_window_size)}


def load_recipe(name: str | Path, assignments: Iterable[str] = ()) -> TrainRecipe:
    """Read a recipe file, or the bundled recipe of that name, and apply `section.key=value`.

    Raises `ConfigError` naming file and key.
    """
    path = find_recipe(name)
    values = override({"name": path.stem, **read_toml(path)}, assignments)
    return check(TrainRecipe, values, str(path), PAGE)


def bundled_recipes() -> list[str]:
    """Names of the training recipes that come with the package."""
    folder = Path(str(files("loopcoder.recipes")))
    return sorted(path.stem for path in folder.glob("*.toml") if "run" in read_toml(path))
