"""What a long build is doing: bars on a terminal, plain lines elsewhere, always to stderr."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Reports named steps; `quiet` says nothing at all."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bars = not quiet and sys.stderr.isatty()
        self._start = time.monotonic()

    def step(self, text: str) -> None:
        """Announce what comes next, with the seconds since the start."""
        if not self._quiet:
            print(f"[{time.monotonic() - self._start:6.1f} s] {text}", file=sys.stderr, flush=True)

    def track(self, text: str, items: Iterable[T], total: int) -> Iterator[T]:
        """Hand the items on while showing how many of `total` are done."""
        if self._bars:
            yield from _with_bar(text, items, total)
            return
        said = time.monotonic()
        for done, item in enumerate(items, 1):
            yield item
            if done == total or time.monotonic() - said > _SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                self.step(f"{text}: {done} of {total}")


def _with_bar(text: str, items: Iterable[T], total: int) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import track

    yield from track(items, text, total=total, console=Console(stderr=True))
