"""CRUXEval: 800 short functions, each with an input and the output that it gives."""

from pathlib import Path

from loopcoder.eval.problems.rows import Row, read_rows
from loopcoder.eval.problems.types import ExecutionProblem


class _Sample(Row):
    id: str
    code: str
    input: str
    output: str

    def key(self) -> str:
        return self.id


def read_cruxeval(path: Path) -> tuple[ExecutionProblem, ...]:
    """The problems of cruxeval.jsonl. Raises `EvaluationError` with every bad line."""
    return tuple(
        ExecutionProblem(id=row.id, code=row.code, input=row.input, output=row.output)
        for row in read_rows(path, _Sample)
    )
