"""A task's results as a record file of its own, and back."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loopcoder.errors import RecordError
from loopcoder.eval.scores import Answer, Estimate
from loopcoder.records.files import read_records, record_file
from loopcoder.records.rows import AnswerRow, AnyRow, NoteRow, ScoreRow, Source

BITS = "bits_per_byte"


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """What one task gave."""

    task: str
    estimates: tuple[Estimate, ...]
    answers: tuple[Answer, ...] = ()

    @property
    def unscored(self) -> tuple[Answer, ...]:
        """Answers that are neither right nor wrong."""
        return tuple(answer for answer in self.answers if not answer.scores)


def write_result(
    directory: Path, result: TaskResult, source: Source, loops: int | None, subject: str | None
) -> Path:
    """`directory`/TASK.jsonl, whole or not at all."""
    path = directory / f"{result.task}.jsonl"
    with record_file(path) as out:
        for estimate in result.estimates:
            out.write(
                ScoreRow(
                    source=source,
                    task=result.task,
                    metric=estimate.metric,
                    value=estimate.value,
                    unit=estimate.unit,
                    loops=loops,
                    subject=subject,
                    samples=estimate.problems,
                    standard_error=estimate.standard_error,
                )
            )
        for answer in result.answers:
            out.write(
                AnswerRow(
                    source=source,
                    task=result.task,
                    problem=answer.problem,
                    sample=answer.sample,
                    scores=answer.scores,
                    reason=answer.reason,
                    detail=answer.detail,
                    cluster=answer.cluster,
                    loops=loops,
                    subject=subject,
                )
            )
        for note in _notes(result):
            out.write(NoteRow(source=source, measure=result.task, text=note))
    return path


def _notes(result: TaskResult) -> Iterable[str]:
    if result.unscored:
        yield (
            f"{len(result.unscored)} of {len(result.answers)} answers are not scored and count "
            f"neither as right nor as wrong; the first: {result.unscored[0].reason}"
        )


def hash_of(files: Iterable[Path]) -> str:
    """sha256 of the files' bytes, the first 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def read_directory(directory: Path) -> list[AnyRow]:
    """All rows of a run. Raises `RecordError` where there are none."""
    if not directory.is_dir():
        raise RecordError(f"{directory} is no directory; give one of `loopcoder eval --out`")
    rows = [row for path in sorted(directory.glob("*.jsonl")) for row in read_records(path)]
    if not any(isinstance(row, ScoreRow | AnswerRow) for row in rows):
        raise RecordError(f"{directory} has no scores; give a directory of `loopcoder eval --out`")
    return rows


def as_json(results: Sequence[TaskResult]) -> list[dict[str, object]]:
    """What `loopcoder eval --json` prints (INTERFACE.md): an entry for each estimate."""
    return [
        {
            "task": result.task,
            "metric": estimate.metric,
            "value": estimate.value,
            "stderr": estimate.standard_error,
            "n": estimate.problems,
            "unit": estimate.unit,
            "answers": len(result.answers),
            "unscored": len(result.unscored),
        }
        for result in results
        for estimate in result.estimates
    ]
