"""What the judge says of one answer."""

from dataclasses import dataclass
from typing import Literal

Reason = Literal[
    "passed",
    "wrong",  # another value than expected, or a failed assertion
    "raised",  # the candidate raised
    "timeout",
    "memory",
    "output",  # too much of it, or a value that is no plain data
    "disk",
    "died",  # the process ended without an answer (exit, a signal, a broken reply)
    "syntax",
    "missing",  # the entry point is not defined
    "empty",  # the answer holds no code
]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`base` and `plus` are the two verdicts of EvalPlus's files; elsewhere they are the same.

    `detail` is one line for a reader: the first input that failed, the error's name.
    """

    base: bool
    plus: bool
    reason: Reason
    detail: str = ""
