"""What happens beside training: records, progress, and a clean stop on Ctrl-C."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from loopcoder.train.loops import of_loops
from loopcoder.train.progress import Display, Status
from loopcoder.train.records import MetricsFile


class Recorder(TrainerCallback):
    """Writes `metrics.jsonl` and shows progress; times leave out evaluation and saving."""

    def __init__(self, metrics: MetricsFile, shown: Display, *, batch_tokens: int) -> None:
        self.metrics, self.shown, self.batch_tokens = metrics, shown, batch_tokens
        self.earlier = metrics.seconds  # of the sessions before this one
        self.started = self.mark = time.perf_counter()
        self.paused = 0.0
        self.mark_step = self.first_step = 0

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, earlier sessions and pauses included."""
        return self.earlier + time.perf_counter() - self.started

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Take the time of the body out of the tokens per second."""
        start = time.perf_counter()
        yield
        self.paused += time.perf_counter() - start

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self.started = self.mark = time.perf_counter()
        self.mark_step = self.first_step = state.global_step

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The last step is always logged."""
        if state.global_step >= state.max_steps:
            control.should_log = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Training rows carry "loss", held-out rows "eval_loss"; the trainer's summary neither."""
        if logs and "loss" in logs:
            self._train_row(state, logs)
        elif logs and "eval_loss" in logs:
            self._heldout_row(state, logs)

    def _train_row(self, state: TrainerState, logs: dict[str, float]) -> None:
        rate = self._tokens_per_s(state.global_step)
        numbers = {
            "loss": logs["loss"],
            "lr": logs["learning_rate"],
            "grad_norm": logs["grad_norm"],
            "tokens_per_s": rate,
        }
        self._append("train", state, {**numbers, **of_loops(logs)})
        done = state.global_step - self.first_step
        spent = time.perf_counter() - self.started
        left = (state.max_steps - state.global_step) * spent / max(done, 1)
        tokens = state.global_step * self.batch_tokens
        self.shown.show(Status(step=state.global_step, tokens=tokens, left=left, **numbers))

    def _heldout_row(self, state: TrainerState, logs: dict[str, float]) -> None:
        bits = logs["eval_bits_per_byte"]
        self._append("heldout", state, {"loss": logs["eval_loss"], "bits_per_byte": bits})
        self.shown.note(
            f"step {state.global_step}/{state.max_steps}  held out: {bits:.4f} bits per byte, "
            f"{logs['eval_loss']:.4f} nats per token"
        )

    def _append(self, kind: str, state: TrainerState, numbers: dict[str, float]) -> None:
        step = state.global_step
        row = {"kind": kind, "step": step, "tokens": step * self.batch_tokens, **numbers}
        self.metrics.append({**row, "seconds": round(self.seconds, 3)})

    def _tokens_per_s(self, step: int) -> float:
        now = time.perf_counter()
        spent = max(now - self.mark - self.paused, 1e-9)
        rate = (step - self.mark_step) * self.batch_tokens / spent
        self.mark, self.mark_step, self.paused = now, step, 0.0
        return rate


class StopOnSignal(TrainerCallback):
    """After SIGINT or SIGTERM: finish the step, save a checkpoint, stop."""

    def __init__(self, shown: Display) -> None:
        self.shown = shown
        self.requested = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals meanwhile; a second one acts as usual, at once."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def request(number: int, frame: FrameType | None) -> None:
            self.requested = True
            signal.signal(number, before[signal.Signals(number)])
            self.shown.note(
                "stopping after this step, with a checkpoint; once more to stop at once"
            )

        for number in before:
            signal.signal(number, request)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask the trainer to save and to stop."""
        if self.requested:
            control.should_save = control.should_training_stop = True
