"""One generated question, and the text that asks it."""

from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from typing import Literal, Protocol

Mode = Literal["direct", "steps"]
Split = Literal["train", "test"]

MODES: tuple[Mode, Mode] = ("direct", "steps")
MAX_HOPS = 16
DIRECT, STEPS, END = ">", "?", ";"  # ask for the answer, ask for the steps too, end of an answer
TEST_SHARE = 1 / 8


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is asked of a statement, and the truth; `steps` is what is written on the way."""

    ask: str
    steps: str
    answer: str

    def prompt(self, mode: Mode) -> str:
        """What is given, up to the mark: `c>`, or `c?` where the steps are to be written."""
        return self.ask + (DIRECT if mode == "direct" else STEPS)

    def continuation(self, mode: Mode) -> str:
        """What is to be written, up to the end: `7;`, or with the steps, `ba7;`."""
        return ("" if mode == "direct" else self.steps) + self.answer + END

    def text(self, mode: Mode) -> str:
        """The query with its answer: `c>7;`, or with the steps written out, `c?ba7;`."""
        return self.prompt(mode) + self.continuation(mode)


@dataclass(frozen=True, kw_only=True)
class Question:
    """A statement and what is asked of it; `hops` belongs to the first query, which is scored."""

    task: str
    hops: int
    statement: str
    queries: tuple[Query, ...]

    def text(self, mode: Mode) -> str:
        """The whole document.

        With steps only the first query is asked: what it writes would give others away.
        """
        asked = self.queries if mode == "direct" else self.queries[:1]
        return self.statement + "".join(query.text(mode) for query in asked)

    @property
    def split(self) -> Split:
        """Train or test, decided by a hash of statement and first query: never both."""
        told = f"{self.task} {self.statement}{self.queries[0].ask}"
        number = int.from_bytes(blake2b(told.encode(), digest_size=8).digest(), "big")
        return "test" if number < TEST_SHARE * 2**64 else "train"


class Task(Protocol):
    """Draws a question of `hops` hops."""

    def __call__(self, rng: Random, hops: int) -> Question:
        """The same question for the same state of `rng`."""
        ...


def letter_of(number: int) -> str:
    """1..9, then A, B, ...: a count as one character."""
    return "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[number]
