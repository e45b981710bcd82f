"""What a study says while it runs: one line a model, and how long the rest will take."""

import sys
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from loopcoder.study.work import LOG_FILE, Job
from loopcoder.train.records import METRICS_FILE, SUMMARY_FILE, read_metrics

_SECONDS_BETWEEN_LINES = 60.0


class Board:
    """Progress by the seconds that each job is thought to take; `expected` has them by name.

    On a terminal one line is kept up to date; elsewhere a line a minute.
    """

    def __init__(self, expected: Mapping[str, float]) -> None:
        self._expected = dict(expected)
        self._running: dict[str, tuple[Job, float]] = {}  # and its share when it began
        self._earlier: set[str] = set()  # trained before this session: nothing to tell
        self._worked = 0.0  # here, so that what an earlier session did does not count
        self._begun = time.monotonic()
        self._said = 0.0
        self._total = self._left = sum(self._expected.values())
        self._terminal = sys.stderr.isatty()

    def say(self, text: str) -> None:
        """A line that stays."""
        clear = "\r\x1b[K" if self._terminal else ""
        print(f"{clear}{datetime.now():%H:%M:%S}  {text}", file=sys.stderr, flush=True)

    def begins(self, job: Job) -> None:
        """A model is begun, or gone on with."""
        self._running[job.cell.name] = (job, _share(job))
        if (job.out / SUMMARY_FILE).is_file():
            self._earlier.add(job.cell.name)
            return
        self.say(f"{job.cell.name}: begins; log: {job.out.with_suffix(f'.{LOG_FILE}')}")

    def ends(self, job: Job, summary: Mapping[str, Any]) -> None:
        """A model is trained and measured."""
        self._leave(job)
        if job.cell.name in self._earlier:
            return
        measured = "" if job.records is None else f", measured: {job.records}"
        self.say(
            f"{job.cell.name}: {summary['bits_per_byte']:.4f} bits per byte held out after "
            f"{summary['wall_s']:.0f} s{measured}"
        )
        if self._running:
            self._show()

    def failed(self, job: Job, error: Exception) -> None:
        """A model could not be trained or measured."""
        self._leave(job)
        self.say(f"{job.cell.name}: {error}")

    def tick(self) -> None:
        """Show how far all is, if it is time to."""
        now = time.monotonic()
        if not self._running or (not self._terminal and now - self._said < _SECONDS_BETWEEN_LINES):
            return
        self._show()

    def _show(self) -> None:
        self._said = time.monotonic()
        line = f"{datetime.now():%H:%M:%S}  {self.line()}"
        if self._terminal:
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()
        else:
            print(line, file=sys.stderr, flush=True)

    def line(self) -> str:
        """Which models run and how far each is, how far all is, and when it will end."""
        shares = {name: _share(job) for name, (job, _) in self._running.items()}
        worked, left = self._worked, self._left
        for name, (_, began) in self._running.items():
            worked += self._expected[name] * (shares[name] - began)
            left -= self._expected[name] * shares[name]
        told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        done = 1 - left / self._total if self._total else 1.0
        if worked <= 0:
            return f"{told}; {done:.0%} of all"
        rest = left * (time.monotonic() - self._begun) / worked
        end = datetime.now() + timedelta(seconds=rest)
        return f"{told}; {done:.0%} of all, ends {end:%d %B %H:%M}"

    def _leave(self, job: Job) -> None:
        _, began = self._running.pop(job.cell.name)
        self._worked += self._expected[job.cell.name] * (1 - began)
        self._left -= self._expected[job.cell.name]


def _share(job: Job) -> float:
    """How much of a training is done, from what it has written."""
    rows = read_metrics(job.out / METRICS_FILE)
    return min(rows[-1]["step"] / job.recipe.steps, 1.0) if rows else 0.0
