"""What a trained model is asked, written as record files."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from loopcoder.hf.modeling import IQuestPLTCoderForCausalLM
from loopcoder.probes.observe import ProbeOptions
from loopcoder.probes.run import RECORDS, ProbeSettings, run_probe
from loopcoder.records.files import record_file
from loopcoder.records.rows import DepthRow, Source
from loopcoder.study.depth_score import DepthQuestions, score_depth
from loopcoder.study.recipe import Depth, Evaluate
from loopcoder.study.records import depth_rows, source_of, training_row
from loopcoder.study.work import Job
from loopcoder.train.heldout import score
from loopcoder.train.plan import make_plan
from loopcoder.train.records import read_json, write_json
from loopcoder.train.run import build_model

ROWS = "study.jsonl"
_ASKED = ".asked"


def measure_model(
    job: Job, summary: dict[str, Any], evaluate: Evaluate, depth: Depth | None
) -> None:
    """Write `job.records` from the finished model, unless the same was asked of it before.

    Generated questions where the study trains on them, the diagnostics of `probe` where it trains
    on text. The directory takes its name when all is written.
    """
    assert job.records is not None, "a trial is not measured"
    model = job.out / "final"
    asked = _asked(job, summary, evaluate, depth)
    if (job.records / _ASKED).is_file() and read_json(job.records / _ASKED) == asked:
        return
    staging = job.records.with_name(f".{job.records.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    source = source_of(job, summary, model)
    with record_file(staging / ROWS) as file:
        file.write(training_row(job, summary, source, start=_start(job)))
        if depth is not None:
            for row in _answers(job, model, evaluate, depth, source):
                file.write(row)
    if depth is None and evaluate.samples:
        _probe(job, model, evaluate, staging)
    write_json(staging / _ASKED, asked)
    shutil.rmtree(job.records, ignore_errors=True)
    os.replace(staging, job.records)


def _asked(
    job: Job, summary: dict[str, Any], evaluate: Evaluate, depth: Depth | None
) -> dict[str, Any]:
    trained = {
        name: summary[name] for name in ("recipe", "shape", "manifest_hash", "bits_per_byte")
    }
    digest = hashlib.sha256(json.dumps(trained, sort_keys=True).encode()).hexdigest()[:16]
    hops = None if depth is None else depth.hops
    return {
        "trained": digest,
        "evaluate": evaluate.model_dump(mode="json"),
        "hops": hops,
        "main": job.main,
        "attention": job.first,
    }


def _start(job: Job) -> float | None:
    """Held-out bits per byte before the first step, of a model that goes on from another."""
    plan = make_plan(job.recipe, job.data)
    if plan.start_from is None:
        return None
    run = job.recipe.run
    with torch.autocast(plan.device.type, dtype=torch.bfloat16, enabled=run.bf16):
        return score(
            build_model(plan).to(plan.device),  # type: ignore[arg-type]  # torch's own method
            plan.heldout,
            batch=run.micro_batch,
            device=plan.device,
            limit=run.final_eval_windows,
        ).bits_per_byte


def _answers(
    job: Job, directory: Path, evaluate: Evaluate, depth: Depth, source: Source
) -> Iterator[DepthRow]:
    model = IQuestPLTCoderForCausalLM.from_pretrained(directory)
    asked = DepthQuestions(
        tasks=depth.tasks,
        modes=depth.modes,
        hops=evaluate.hops,
        count=evaluate.questions,
        seed=evaluate.seed,
    )
    for loops in sorted({job.cell.loops, *job.recipe.loops.sample}):
        scores = score_depth(model, asked, loops=loops)
        yield from depth_rows(job, scores, loops, depth.hops, source)


def _probe(job: Job, directory: Path, evaluate: Evaluate, out: Path) -> None:
    run_probe(
        ProbeSettings(
            model=str(directory),
            name=job.cell.name,
            arm=job.arm,
            out=out,
            data=(job.data,),
            samples=evaluate.samples,
            length=evaluate.length,
            seed=evaluate.seed,
            options=ProbeOptions(attention=evaluate.attention and job.first),
            dtype="float32",
            device=job.recipe.run.device,
            command=f"loopcoder study {job.study}",
        )
    )
    assert (out / RECORDS).is_file(), "run_probe writes it"
