"""How far a run is: a bar on a terminal, plain lines elsewhere, always on standard error."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Status:
    """The numbers of one log line; `left` are the seconds that the rest will take."""

    step: int
    tokens: int
    loss: float
    lr: float
    grad_norm: float
    tokens_per_s: float
    left: float


class Display(Protocol):
    """Where progress is shown."""

    def show(self, status: Status) -> None:
        """Show the state of training."""
        ...

    def note(self, text: str) -> None:
        """Show a line that stays."""
        ...


def status_line(status: Status, steps: int) -> str:
    """One line: step, tokens, loss, lr, gradient norm, tokens/s, end."""
    end = time.strftime("%H:%M:%S", time.localtime(time.time() + status.left))
    return (
        f"step {status.step}/{steps}  {_short(status.tokens)} tokens  loss {status.loss:.4f}  "
        f"lr {status.lr:.2e}  grad {status.grad_norm:.3f}  {_short(status.tokens_per_s)} tokens/s  "
        f"left {_clock(status.left)}, ends {end}"
    )


def _short(count: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count:.0f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


class Lines:
    """Plain lines."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def show(self, status: Status) -> None:
        """See `Display`."""
        self.note(status_line(status, self.steps))

    def note(self, text: str) -> None:
        """See `Display`."""
        print(text, file=sys.stderr, flush=True)


@contextmanager
def display(steps: int) -> Iterator[Display]:
    """A `Display` for a run of `steps`, while the run lasts."""
    if not sys.stderr.isatty():
        yield Lines(steps)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    # A column that may wrap, so that a narrow terminal loses no number.
    text = TextColumn("{task.description}", table_column=Column(no_wrap=False))
    columns = (BarColumn(bar_width=10), text)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("starting", total=steps)

        class Bar:
            def show(self, status: Status) -> None:
                progress.update(task, completed=status.step, description=status_line(status, steps))

            def note(self, text: str) -> None:
                progress.console.print(text, highlight=False, markup=False)

        yield Bar()
