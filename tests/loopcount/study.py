"""Rows as `loopcoder study` leaves them, with numbers that a test chooses."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from loopcoder.loopcount import Evidence, Run
from loopcoder.loopcount.runs import as_run, ordered
from loopcoder.records.rows import AnyRow, DepthRow, Source, TrainingRow
from tests.loopcount.rows import source, write

HOPS = [1, 2, 3, 4, 5, 6]
TRAINED_HOPS = 4
STUDY = "small"


def source_of(arm: str, loops: int, seed: int, *, main: bool) -> Source:
    """Of a model whose name is the study's; its arm is told where it is not the main one."""
    where = source(f"{arm.encode().hex()[:16]}-{loops}-{seed}", loops)
    assert where.model is not None
    name = f"{arm}-R{loops}-s{seed}"
    model = where.model.model_copy(update={"name": name, "arm": None if main else arm})
    return where.model_copy(update={"command": "loopcoder study r.toml", "model": model})


def training(
    arm: str,
    loops: int,
    seed: int,
    bits: float,
    *,
    main: bool = True,
    stage: str = "run",
    study: str = STUDY,
    flops: float = 1e15,
    **more: object,
) -> TrainingRow:
    where = source_of(arm, loops, seed, main=main)
    if stage == "trial":
        where = where.model_copy(update={"model": None, "data": None})
    return TrainingRow.model_validate(
        {
            "source": where,
            "study": study,
            "arm": arm,
            "stage": stage,
            "loops": loops,
            "seed": seed,
            "parameters": 1_000_000,
            "steps": 2000,
            "tokens": 65_536_000,
            "flops": flops,
            "seconds": 1500.0,
            "settings": {"learning_rate": 0.003},
            "bits_per_byte": bits,
            "loss": bits * 2.1,
            **more,
        }
    )


def answers(shares: Sequence[float], questions: int = 100, *, seed: int = 0) -> list[str]:
    """For each number of hops a line with that share of ones, in an order of the seed."""
    draw = np.random.default_rng(seed)
    lines = []
    for share in shares:
        right = np.zeros(questions, dtype=int)
        right[: round(share * questions)] = 1
        lines.append("".join(map(str, draw.permutation(right))))
    return lines


def depth(
    arm: str,
    loops: int,
    seed: int,
    task: str,
    mode: str,
    right: Sequence[str],
    *,
    main: bool = True,
    run_at: int | None = None,
) -> DepthRow:
    where = source_of(arm, loops, seed, main=main)
    return DepthRow.model_validate(
        {
            "source": where.model_copy(update={"data": None}),
            "study": STUDY,
            "arm": arm,
            "seed": seed,
            "loops": run_at or loops,
            "task": task,
            "mode": mode,
            "trained_hops": TRAINED_HOPS,
            "hops": HOPS[: len(right)],
            "right": list(right),
        }
    )


def evidence_of(files: Mapping[str, Sequence[AnyRow]]) -> Evidence:
    """As if each had been a record file."""
    runs: list[Run] = [as_run(name, rows) for name, rows in files.items()]
    return ordered(runs)


def write_study(directory: Path, files: Mapping[str, Sequence[AnyRow]]) -> Path:
    """The files of a study in `directory`."""
    for name, rows in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        write(directory / name, rows)
    return directory
