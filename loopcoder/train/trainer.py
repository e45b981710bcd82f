"""transformers' trainer with whole checkpoints, a guard against NaN, and bits per byte."""

from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from loopcoder.errors import TrainingError
from loopcoder.hf.modeling import IQuestPLTCoderForCausalLM
from loopcoder.train.callbacks import Recorder
from loopcoder.train.checkpoints import newest_checkpoint, whole_checkpoint
from loopcoder.train.final import write_model
from loopcoder.train.heldout import HeldoutScore, score
from loopcoder.train.initial import load_weights
from loopcoder.train.loops import LoopTally, head_losses, step_loops
from loopcoder.train.plan import Plan
from loopcoder.train.recipe import Loops, TrainRecipe


def training_arguments(recipe: TrainRecipe, out: Path, device: torch.device) -> TrainingArguments:
    """The recipe in the trainer's terms (SPEC.md section 4)."""
    run, optim, cuda = recipe.run, recipe.optim, device.type == "cuda"
    return TrainingArguments(
        output_dir=str(out),
        use_cpu=not cuda,
        max_steps=recipe.steps,
        per_device_train_batch_size=run.micro_batch,
        gradient_accumulation_steps=recipe.accumulation,
        train_sampling_strategy="sequential",  # the data set is in the run's order already
        dataloader_num_workers=run.workers,
        dataloader_pin_memory=cuda,
        dataloader_persistent_workers=run.workers > 0,
        accelerator_config={"non_blocking": cuda},
        remove_unused_columns=False,
        optim="adamw_torch_fused",
        learning_rate=optim.peak_lr,
        adam_beta1=optim.betas[0],
        adam_beta2=optim.betas[1],
        adam_epsilon=optim.eps,
        weight_decay=optim.weight_decay,
        max_grad_norm=optim.clip,
        # The variant whose first step has a rate above 0 and whose last has the smallest.
        lr_scheduler_type="cosine_warmup_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": optim.min_lr_ratio},
        warmup_steps=recipe.warmup_steps,
        bf16=run.bf16,
        tf32=True if cuda else None,
        torch_compile=run.compile,
        seed=run.seed,
        logging_steps=run.log_every,
        logging_nan_inf_filter=False,
        eval_strategy="steps",
        eval_steps=run.eval_every,
        save_strategy="steps",
        save_steps=run.save_every,
        save_total_limit=None,  # `whole_checkpoint` removes old ones, after the new one is whole
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )


class PLTTrainer(Trainer):
    """A `Trainer` whose checkpoints are whole and whose weights never see a NaN."""

    def __init__(
        self, *, plan: Plan, recorder: Recorder, model: IQuestPLTCoderForCausalLM, **kwargs: Any
    ) -> None:
        super().__init__(model, eval_dataset=plan.heldout, callbacks=[recorder], **kwargs)
        self.plan, self.run, self.recorder = plan, plan.recipe.run, recorder
        self.network = model  # never the compiled wrapper
        self._run_dir = self._out = Path(str(self.args.output_dir))
        self._losses: list[Tensor] = []
        self._loops, self._tally = plan.recipe.loops, LoopTally(plan.recipe.loops)
        self._last_loss: Tensor | None = None

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Matrices only; norms and biases are not pulled to 0."""
        return [name for name, parameter in model.named_parameters() if parameter.dim() >= 2]

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """None: the trainer's count is of one loop, and costs a walk over the model each time."""
        return 0

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """As the trainer's; keeps the loss for the check before the optimizer's step.

        What it returns is logged: the last loop's loss, which compares with other runs.
        """
        loss: Tensor = super().training_step(*args, **kwargs)
        self._losses.append(loss)
        return loss if self._last_loss is None else self._last_loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss that `[loops]` asks for; the model's own where it says nothing."""
        if isinstance(num_items_in_batch, Tensor):
            # A step may hold no label, if only answers are: its loss is 0 then, not 0 / 0.
            num_items_in_batch = num_items_in_batch.clamp(min=1)
        if self._loops == Loops():
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        assert not return_outputs, "nobody asks: held-out scoring has its own way"
        step, every = self.state.global_step + 1, self._loops.loss == "every"
        loops = self._loops_of(step)
        asked = {**inputs, "num_loops": loops, "output_loop_states": every}
        last, outputs = super().compute_loss(model, asked, True, num_items_in_batch)
        states = outputs.loop_hidden_states[:-1] if every else ()
        del outputs  # the last loop's logits, before others are made
        with self.accelerator.autocast():
            earlier = head_losses(self.network, states, inputs["labels"], num_items_in_batch)
        losses = [*earlier, last]
        self._last_loss = last.detach()
        self._tally.add(step, loops, losses)
        return torch.stack(losses).mean()

    def _loops_of(self, step: int) -> int:
        sample = self._loops.sample
        if not sample:
            return self.plan.shape.plt_num_loops
        return step_loops(sample, seed=self.run.seed, step=step)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """As the trainer's, with what there is to say of loops."""
        super().log({**logs, **self._tally.take()} if "loss" in logs else logs, *args, **kwargs)

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        norm: Tensor = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]
        loss = torch.stack(self._losses).sum()
        self._losses.clear()
        # The one wait for the device in a step: after it the weights may be changed.
        if not bool(torch.isfinite(loss + norm)):
            self._stop(loss.item(), norm.item())
        return norm

    def _stop(self, loss: float, norm: float) -> NoReturn:
        newest = newest_checkpoint(self._out)
        good = f"the last good checkpoint is {newest}" if newest else "there is no checkpoint yet"
        raise TrainingError(
            f"step {self.state.global_step + 1}: the loss is {loss} and the gradient norm {norm}; "
            f"the step was not taken and {good}. Lower optim.peak_lr or look at the data"
        )

    def score_heldout(self, limit: int | None, loops: int | None = None) -> HeldoutScore:
        """Score the model as it is on `limit` held-out windows (None: all).

        `loops` is the loop count to run, the model's own if None.
        """
        with self.recorder.pause(), self.accelerator.autocast():
            return score(
                self.network,
                self.plan.heldout,
                batch=self.run.micro_batch,
                device=self.args.device,
                limit=limit,
                num_loops=loops,
            )

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Bits per byte and nats per token of the fixed held-out windows."""
        result = self.score_heldout(self.run.eval_windows)
        metrics = {"eval_bits_per_byte": result.bits_per_byte, "eval_loss": result.loss}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._run_dir)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        step, keep = self.state.global_step, self.run.keep
        with self.recorder.pause(), whole_checkpoint(self._out, step, keep) as self._run_dir:
            super()._save_checkpoint(model, trial)
        self._run_dir = self._out

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # In the released layout, so that `loopcoder generate --model` takes any checkpoint.
        assert output_dir is not None, "the trainer names every checkpoint"
        write_model(self.network, self.plan, Path(output_dir), torch.float32)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_weights(self.network, Path(resume_from_checkpoint))
