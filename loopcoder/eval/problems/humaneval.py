"""HumanEval, HumanEval+ and HumanEval's fill-in-the-middle tasks, from their own files."""

from pathlib import Path
from typing import Any

from loopcoder.eval.problems.identifier import Identifier
from loopcoder.eval.problems.rows import Row, read_rows
from loopcoder.eval.problems.types import Assertions, CodeProblem, Inputs

# The answer of HumanEval/32 is any root of the polynomial, so equality would be wrong.
ORACLES = {"find_zero": "root"}


class _Task(Row):
    task_id: str
    prompt: str
    entry_point: Identifier
    canonical_solution: str
    test: str

    def key(self) -> str:
        return self.task_id

    def assertions(self) -> Assertions:
        """The test defines `check(candidate)`; running it is up to us."""
        return Assertions(source=f"{self.test}\ncheck({self.entry_point})\n")


class _PlusTask(Row):
    task_id: str
    prompt: str
    entry_point: Identifier
    canonical_solution: str
    base_input: list[list[Any]]
    plus_input: list[list[Any]]
    atol: float

    def key(self) -> str:
        return self.task_id


class _Gap(_Task):
    suffix: str


def read_humaneval(path: Path) -> tuple[CodeProblem, ...]:
    """The problems of HumanEval.jsonl.gz, tested by its own assertions.

    Raises `EvaluationError`, here and in the other readers, with every bad line.
    """
    return tuple(
        CodeProblem(
            id=row.task_id,
            prompt=row.prompt,
            entry_point=row.entry_point,
            reference=row.prompt + row.canonical_solution,
            tests=row.assertions(),
        )
        for row in read_rows(path, _Task)
    )


def read_humaneval_plus(path: Path) -> tuple[CodeProblem, ...]:
    """The problems of EvalPlus's HumanEvalPlus.jsonl.gz, tested on inputs."""
    return tuple(
        CodeProblem(
            id=row.task_id,
            prompt=row.prompt,
            entry_point=row.entry_point,
            reference=row.prompt + row.canonical_solution,
            tests=Inputs(
                base=tuple(map(tuple, row.base_input)),
                plus=tuple(map(tuple, row.plus_input)),
                atol=row.atol,
                oracle=ORACLES.get(row.entry_point),
            ),
        )
        for row in read_rows(path, _PlusTask)
    )


def read_infilling(path: Path) -> tuple[CodeProblem, ...]:
    """The gaps of a HumanEval infilling file (single line, several lines, random span)."""
    return tuple(
        CodeProblem(
            id=row.task_id,
            prompt=row.prompt,
            entry_point=row.entry_point,
            reference=row.prompt + row.canonical_solution + row.suffix,
            tests=row.assertions(),
            suffix=row.suffix,
        )
        for row in read_rows(path, _Gap)
    )
