"""Held-out bits per byte as a benchmark: documents already scored are kept between runs."""

import asyncio
import json
import threading
from dataclasses import asdict
from pathlib import Path

from loopcoder.eval.heldout import DocumentScore, Endpoint, HeldoutResult, Local, bits_per_byte
from loopcoder.eval.records import BITS, TaskResult
from loopcoder.eval.scores import Answer, Estimate
from loopcoder.eval.settings import EvalSettings

TASK = "heldout"
UNIT = "bits/byte"
_DONE = "documents.jsonl"


def run_heldout(settings: EvalSettings) -> TaskResult:
    """Score `settings.data`, or Python's standard library, and keep each document's score."""
    done = settings.out / TASK / _DONE
    done.parent.mkdir(parents=True, exist_ok=True)
    known, lock = _read(done), threading.Lock()
    with done.open("a", encoding="utf-8") as file:

        def settled(score: DocumentScore) -> None:
            with lock:
                file.write(json.dumps(asdict(score)) + "\n")
                file.flush()

        result = asyncio.run(
            bits_per_byte(
                _scorer(settings),
                [settings.data] if settings.data else [],
                limit=settings.limit,
                known=known,
                settled=settled,
            )
        )
    return _task_result(result)


def _read(path: Path) -> list[DocumentScore]:
    """What is there; a last line that was cut off is scored again."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [DocumentScore(**json.loads(line)) for line in lines]


def _scorer(settings: EvalSettings) -> Local | Endpoint:
    if settings.base_url is not None:
        return Endpoint(
            base_url=settings.base_url,
            model=settings.model,
            api_key=settings.api_key,
            loops=settings.loops,
            connections=settings.max_num_seqs,
            timeout=settings.timeout,
            attempts=settings.retries + 1,
        )
    return Local(
        model=settings.model,
        loops=settings.loops,
        dtype=settings.dtype,
        quantization=settings.quantization,
        device=settings.device,
    )


def _task_result(result: HeldoutResult) -> TaskResult:
    found = result.estimate
    estimates: tuple[Estimate, ...] = ()
    if found is not None:
        estimates = (
            Estimate(
                metric=BITS,
                value=found.value,
                standard_error=found.error,
                problems=found.units,
                unit=UNIT,
            ),
        )
    return TaskResult(
        task=TASK, estimates=estimates, answers=tuple(_answer(each) for each in result.documents)
    )


def _answer(score: DocumentScore) -> Answer:
    rate = score.bits_per_byte
    return Answer(
        problem=score.document,
        sample=1,
        scores={} if rate is None else {BITS: rate},
        reason=f"unscored: {score.unscored}" if rate is None else "scored",
        detail=f"{score.bytes} bytes, {score.tokens} tokens",
    )
