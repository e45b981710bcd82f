"""What a benchmark asks, as values: no prompt, no model, no file format."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Assertions:
    """Tests as a program.

    `source` is run after `setup`, in a namespace where the entry point is the candidate; it passes
    if nothing is raised. HumanEval's `check(candidate)` is called by the source itself.
    """

    source: str
    setup: str = ""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Tests as inputs whose right answers are what the reference gives (EvalPlus).

    `base` and `plus` hold argument lists; both must pass for the plus score. `atol` is the absolute
    tolerance of floats, `oracle` names a special comparison (`judge.oracles`), if any.
    """

    base: tuple[tuple[Any, ...], ...]
    plus: tuple[tuple[Any, ...], ...] = ()
    atol: float = 0.0
    oracle: str | None = None


@dataclass(frozen=True, kw_only=True)
class CodeProblem:
    """Write a function. `reference` is a whole program that defines `entry_point` rightly.

    `prompt` is the published one (HumanEval: signature and docstring; MBPP: a docstring with
    examples). For fill-in-the-middle `suffix` is what follows the gap that `prompt` ends at.
    """

    id: str
    prompt: str
    entry_point: str
    reference: str
    tests: Assertions | Inputs
    suffix: str | None = None


@dataclass(frozen=True, kw_only=True)
class ExecutionProblem:
    """What does this function give (CRUXEval-O), or what made it give this (CRUXEval-I)?

    `input` holds the arguments' source text, `output` the value's.
    """

    id: str
    code: str
    input: str
    output: str
