"""The rows that a study writes of its models."""

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from loopcoder.checkpoint.config_file import read_config
from loopcoder.checkpoint.identity import checkpoint_hash
from loopcoder.probes.identity import model_identity
from loopcoder.records import machine
from loopcoder.records.rows import DataIdentity, DepthRow, Source, TrainingRow
from loopcoder.study.depth_score import DepthScore
from loopcoder.study.work import Job
from loopcoder.train.cost import training_cost


def source_of(job: Job, summary: Mapping[str, Any], directory: Path | None) -> Source:
    """Where rows of a job come from; `directory` holds its model, None for a trial's."""
    model = None
    if directory is not None:
        model = model_identity(
            read_config(directory),
            name=job.cell.name,
            model_hash=checkpoint_hash(directory),
            dtype=job.recipe.run.final_dtype,
            arm=job.arm,
        )
    return Source(
        command=f"loopcoder study {job.study}",
        version=version("loopcoder"),
        model=model,
        data=DataIdentity(
            name=f"{job.data.name}, held out",
            hash=str(summary["manifest_hash"])[:16],
            length=job.recipe.data.sequence_length,
        ),
        seed=job.cell.seed,
        machine={**machine(), "device": summary["device"], "threads": summary["threads"]},
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def training_row(
    job: Job, summary: Mapping[str, Any], source: Source, *, start: float | None = None
) -> TrainingRow:
    """How a training ended; `start` is the held-out bits per byte before it."""
    cost = training_cost(job.recipe, job.shape)
    by_loops = summary.get("heldout_by_loops", {})
    return TrainingRow(
        source=source,
        study=job.study,
        arm=job.cell.arm.name,
        stage="trial" if job.records is None else "run",
        loops=job.cell.loops,
        seed=job.cell.seed,
        parameters=summary["parameters"],
        steps=summary["steps"],
        tokens=summary["tokens"],
        flops=cost.flops,
        seconds=summary["wall_s"],
        settings=dict(job.settings),
        bits_per_byte=summary["bits_per_byte"],
        loss=summary["heldout"]["loss"],
        by_loops={int(loops): score["bits_per_byte"] for loops, score in by_loops.items()},
        start_bits_per_byte=start,
    )


def depth_rows(
    job: Job, scores: list[DepthScore], loops: int, trained_hops: int, source: Source
) -> list[DepthRow]:
    """Answers of a model that ran `loops` loops."""
    return [
        DepthRow(
            source=source,
            study=job.study,
            arm=job.cell.arm.name,
            seed=job.cell.seed,
            loops=loops,
            task=score.task,
            mode=score.mode,
            trained_hops=trained_hops,
            hops=score.hops,
            right=score.right,
        )
        for score in scores
    ]
