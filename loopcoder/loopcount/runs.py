"""What measurements left behind, file by file: records, and the objects of `bench --json`."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from loopcoder.errors import RecordError, file_errors
from loopcoder.loopcount.published import PUBLISHED, published
from loopcoder.records.files import read_records
from loopcoder.records.rows import (
    AnyRow,
    DataIdentity,
    DepthRow,
    ModelIdentity,
    Row,
    SampleRow,
    TrainingRow,
)

_Row = TypeVar("_Row", bound=Row)
_BENCH = {"machine", "model", "rows", "ratios"}
_EXPECTED = "give what `loopcoder probe --out`, `study` or `bench --json` wrote"


@dataclass(frozen=True, kw_only=True)
class Run:
    """The rows of one file: of one `model` on one text, or (`model` None) published or trials."""

    name: str
    rows: tuple[AnyRow, ...]
    model: ModelIdentity | None
    data: DataIdentity | None

    def of(self, kind: type[_Row]) -> list[_Row]:
        """All rows of one kind."""
        return [row for row in self.rows if isinstance(row, kind)]

    @property
    def loops(self) -> int:
        """How many loops the samples went through; 0 without samples."""
        return max((row.loops for row in self.of(SampleRow)), default=0)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One object of `loopcoder bench --json` (INTERFACE.md)."""

    name: str
    machine: dict[str, Any]
    model: dict[str, Any]
    rows: tuple[dict[str, Any], ...]
    ratios: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that an advice is made from, in an order that the command line does not decide."""

    runs: tuple[Run, ...]
    benches: tuple[Bench, ...] = ()

    @property
    def measured(self) -> tuple[Run, ...]:
        """Runs of models that were here and that differ in loops alone: no study's other arms."""
        return tuple(run for run in self.runs if run.model is not None and run.model.arm is None)

    @property
    def other_arms(self) -> tuple[Run, ...]:
        """Runs of models that differ from a study's main ones in more than loops."""
        return tuple(
            run for run in self.runs if run.model is not None and run.model.arm is not None
        )

    @property
    def published(self) -> tuple[Run, ...]:
        """What papers say."""
        return tuple(run for run in self.runs if run.model is None and not run.of(TrainingRow))


def published_run() -> Run:
    """The papers' values that ship with the package."""
    return as_run(PUBLISHED, published())


def as_run(name: str, rows: Sequence[AnyRow]) -> Run:
    """Rows that belong together. Raises `RecordError` if they are of two models or two texts."""
    models = {row.source.model.hash: row.source.model for row in rows if row.source.model}
    if len(models) > 1:
        listed = " and ".join(f"{model.name} ({key[:12]})" for key, model in models.items())
        raise RecordError(f"{name}: rows of several models, {listed}; give a file for each model")
    # What a model was trained on, or asked, is no text whose samples are paired.
    read = [row.source.data for row in rows if not isinstance(row, TrainingRow | DepthRow)]
    texts = {(data.hash, data.length) for data in read if data}
    if len(texts) > 1:
        listed = " and ".join(f"{key[:12]} in samples of {length}" for key, length in sorted(texts))
        raise RecordError(f"{name}: rows of several texts, {listed}; give a file for each text")
    samples = [row for row in rows if isinstance(row, SampleRow)]
    for sample in samples:
        if len(sample.nats) != sample.loops:
            raise RecordError(
                f"{name}: sample {sample.document}, token {sample.start}, has {len(sample.nats)} "
                f"losses for {sample.loops} loops; the row was changed, measure again"
            )
    for row in rows:
        if isinstance(row, DepthRow):
            _check_answers(name, row)
    places = Counter((row.document, row.start, row.loops) for row in samples)
    for (document, start, _), count in places.most_common(1):
        if count > 1:
            raise RecordError(
                f"{name}: sample {document}, token {start}, is there {count} times; files were "
                "joined, give each as it was written"
            )
    if samples and not (models and texts):
        raise RecordError(f"{name}: samples that name no model or no text; measure again")
    data = next((each for each in read if each), None)
    model = next(iter(models.values()), None)
    return Run(name=name, rows=tuple(rows), model=model, data=data)


def _check_answers(name: str, row: DepthRow) -> None:
    if len(row.hops) != len(row.right) or not set("".join(row.right)) <= {"0", "1"}:
        raise RecordError(
            f"{name}: the answers to {row.task} ({row.mode}) are no line of 0 and 1 for each "
            "number of hops; the row was changed, run the study again"
        )


def read_evidence(
    paths: Iterable[Path], *, with_published: bool = False, say: Callable[[str], None]
) -> Evidence:
    """Read files, and directories searched for them; `say` hears what is passed over.

    A file that is named must be a record file or a bench object; of a directory, others are passed
    over. Raises `RecordError` naming the file that cannot be used.
    """
    runs: list[Run] = []
    benches: list[Bench] = []
    skipped: list[str] = []
    for path, named in _once(_files(paths), say):
        found = _read(path, named)
        if isinstance(found, Run):
            runs.append(found)
        elif isinstance(found, Bench):
            benches.append(found)
        else:
            skipped.append(str(path))
    if skipped:
        more = f" and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        say(f"passed over, neither records nor a bench: {', '.join(skipped[:5])}{more}")
    if with_published:
        runs.append(published_run())
    if not runs:
        if benches:
            raise RecordError(
                f"{benches[0].name}: a bench says what loops cost, not what they gain; give the "
                "records of `loopcoder probe` too"
            )
        raise RecordError(
            f"no record files in {', '.join(map(str, paths)) or 'nothing'}; {_EXPECTED}"
        )
    return ordered(runs, benches)


def ordered(runs: Iterable[Run], benches: Iterable[Bench] = ()) -> Evidence:
    """Evidence in an order of its own."""
    return Evidence(
        runs=tuple(sorted(runs, key=_place)),
        benches=tuple(sorted(benches, key=lambda bench: (bench.name, json.dumps(bench.ratios)))),
    )


def _place(run: Run) -> tuple[bool, int, str, int, str]:
    model = run.model
    return (
        model is None,
        model.trained_loops if model else 0,
        model.hash if model else "",
        run.loops,
        run.name,
    )


def _files(paths: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    """Each file, and whether the user named it."""
    for path in paths:
        if path.is_dir():
            yield from (
                (each, False)
                for each in sorted(path.rglob("*.json*"))
                if each.suffix in (".json", ".jsonl") and each.is_file()
            )
        else:
            yield path, True


def _once(
    files: Iterable[tuple[Path, bool]], say: Callable[[str], None]
) -> Iterator[tuple[Path, bool]]:
    seen: set[Path] = set()
    for path, named in files:
        real = path.resolve()
        if real in seen:
            say(f"{path}: given twice, counted once")
        else:
            seen.add(real)
            yield path, named


def _read(path: Path, named: bool) -> Run | Bench | None:
    """A run, a bench, or None for a file in a directory that is clearly something else."""
    if path.suffix == ".json":
        return _read_bench(path, named)
    if not named and _is_foreign(path):
        return None
    return as_run(str(path), read_records(path))


def _is_foreign(path: Path) -> bool:
    """Whether the first line is a JSON value without what every row of ours has."""
    with file_errors(RecordError, _EXPECTED), path.open("rb") as file:
        first = next((line for line in file if line.strip()), b"")
    try:
        values = json.loads(first)
    except ValueError:
        return False  # perhaps ours and cut off: reading it says so
    return not isinstance(values, dict) or not {"schema", "source"} & values.keys()


def _read_bench(path: Path, named: bool) -> Bench | None:
    with file_errors(RecordError, _EXPECTED):
        raw = path.read_bytes()
    try:
        values = json.loads(raw)
    except ValueError as error:
        raise RecordError(f"{path}: not JSON ({error}); {_EXPECTED}") from error
    if not isinstance(values, dict) or not values.keys() >= _BENCH:
        if named:
            raise RecordError(f"{path}: no object of `loopcoder bench --json`; {_EXPECTED}")
        return None
    kinds = {"machine": dict, "model": dict, "rows": list, "ratios": dict}
    for key, kind in kinds.items():
        if not isinstance(values[key], kind):
            raise RecordError(f"{path}: {key} is no {kind.__name__}; measure again")
    return Bench(name=str(path), **{**{k: values[k] for k in kinds}, "rows": tuple(values["rows"])})
