"""One training run, from a recipe to a checkpoint directory and its records."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import PrinterCallback, Trainer

from loopcoder.errors import ConfigError
from loopcoder.hf.configuration import PLTCoderConfig
from loopcoder.hf.modeling import IQuestPLTCoderForCausalLM
from loopcoder.train.callbacks import Recorder, StopOnSignal
from loopcoder.train.checkpoints import step_of
from loopcoder.train.cost import training_cost
from loopcoder.train.directory import open_directory
from loopcoder.train.final import summary, write_model
from loopcoder.train.initial import load_weights, set_initial_weights
from loopcoder.train.plan import Plan, make_plan
from loopcoder.train.progress import Display, display
from loopcoder.train.recipe import TrainRecipe
from loopcoder.train.records import SUMMARY_FILE, MetricsFile, write_json
from loopcoder.train.trainer import PLTTrainer, training_arguments
from loopcoder.train.windows import Collator


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended: `summary` is what `run.json` holds, None if a signal stopped the run."""

    out: Path
    step: int
    summary: dict[str, Any] | None


def train(
    recipe: TrainRecipe, *, out: Path, data: Path | None = None, resume: bool = False
) -> RunResult:
    """Train as `recipe` says and write everything to `out` (docs/training.md).

    `data` replaces the recipe's `data.shards`; `resume` goes on from the newest checkpoint.
    Raises `ConfigError`, `DataError` or `TrainingError`; SPEC.md section 4 has the method.
    """
    if recipe.run.threads is not None:
        torch.set_num_threads(recipe.run.threads)
    _check_installed(recipe)
    plan = make_plan(recipe, data)
    start = open_directory(out, plan.record(), resume=resume)
    metrics = MetricsFile(out, 0 if start is None else step_of(start))
    with display(recipe.steps) as shown:
        recorder = Recorder(metrics, shown, batch_tokens=recipe.run.batch_tokens)
        trainer = build_trainer(plan, out, recorder, step=0 if start is None else step_of(start))
        shown.note(_opening(plan, out, start))
        stop = StopOnSignal(shown)
        trainer.add_callback(stop)
        with _listening(stop):
            trainer.train(resume_from_checkpoint=None if start is None else str(start))
        step = trainer.state.global_step
        if step < recipe.steps:
            shown.note(f"stopped after step {step}; --resume goes on from here")
            return RunResult(out=out, step=step, summary=None)
        return RunResult(out=out, step=step, summary=_finish(trainer, plan, out, shown))


def build_model(plan: Plan) -> IQuestPLTCoderForCausalLM:
    """The model in float32 with the weights that step 1 starts from."""
    config = PLTCoderConfig(
        **plan.shape.to_mapping(), bos_token_id=plan.shards.bos_id, eos_token_id=plan.shards.eos_id
    )
    model = IQuestPLTCoderForCausalLM(config)
    if plan.start_from is None:
        set_initial_weights(model, plan.recipe.init, plan.shape.num_hidden_layers)
    else:
        load_weights(model, plan.start_from)
    if plan.recipe.run.gradient_checkpointing:
        # Set here because transformers renamed its switch between the versions supported.
        model.model.gradient_checkpointing = True
        model.model._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
    return model


def build_trainer(plan: Plan, out: Path, recorder: Recorder, *, step: int = 0) -> PLTTrainer:
    """The trainer of a run that has done `step` steps."""
    trainer = PLTTrainer(
        plan=plan,
        recorder=recorder,
        model=build_model(plan),
        args=training_arguments(plan.recipe, out, plan.device),
        train_dataset=plan.windows,
        data_collator=Collator(plan.shards.bos_id, plan.shards.answers),
    )
    trainer.remove_callback(PrinterCallback)  # it prints to standard output
    if plan.recipe.run.tensorboard:
        _add_tensorboard(trainer, out, step)
    return trainer


def _add_tensorboard(trainer: Trainer, out: Path, step: int) -> None:
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations.integration_utils import TensorBoardCallback

    writer = SummaryWriter(log_dir=str(out / "tensorboard"), purge_step=step + 1 if step else None)
    trainer.add_callback(TensorBoardCallback(writer))


def _check_installed(recipe: TrainRecipe) -> None:
    if find_spec("accelerate") is None:
        raise ConfigError("training needs accelerate; install loopcoder[train]")
    if recipe.run.tensorboard and find_spec("tensorboard") is None:
        raise ConfigError(
            "run.tensorboard is true and tensorboard is not installed; install loopcoder[train] "
            "or add --set run.tensorboard=false"
        )


def _opening(plan: Plan, out: Path, start: Path | None) -> str:
    cost = training_cost(plan.recipe, plan.shape)
    begin = "from the beginning" if start is None else f"from {start}"
    return (
        f"{plan.recipe.name}: {plan.recipe.steps} steps of {plan.recipe.run.batch_tokens} tokens "
        f"({cost.flops:.1e} FLOPs) on {plan.device}, {_loops(plan)}, {begin}, to {out}"
    )


def _loops(plan: Plan) -> str:
    sample, own = plan.recipe.loops.sample, plan.shape.plt_num_loops
    return f"{' or '.join(map(str, sample))} loops a step" if sample else f"{own} loops"


def _listening(stop: StopOnSignal) -> AbstractContextManager[None]:
    # Python lets only the main thread handle signals.
    return stop.listening() if current_thread() is main_thread() else nullcontext()


def _finish(trainer: PLTTrainer, plan: Plan, out: Path, shown: Display) -> dict[str, Any]:
    shown.note("scoring the held-out split")
    limit, own = plan.recipe.run.final_eval_windows, plan.shape.plt_num_loops
    heldout = trainer.score_heldout(limit)
    by_loops = {
        loops: heldout if loops == own else trainer.score_heldout(limit, loops)
        for loops in sorted(plan.recipe.loops.sample)
    }
    dtype = getattr(torch, plan.recipe.run.final_dtype)
    write_model(trainer.network, plan, out / "final", dtype)
    result = summary(
        plan,
        out,
        step=trainer.state.global_step,
        seconds=trainer.recorder.seconds,
        parameters=sum(parameter.numel() for parameter in trainer.network.parameters()),
        heldout=heldout,
        by_loops=by_loops,
    )
    write_json(out / SUMMARY_FILE, result)
    for loops, found in by_loops.items():
        shown.note(f"R = {loops}: {found.bits_per_byte:.4f} bits per byte held out")
    shown.note(f"done: {heldout.bits_per_byte:.4f} bits per byte held out; {out / 'final'}")
    return result
