"""Rows as `loopcoder probe` writes them, with numbers that a test chooses."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loopcoder.loopcount import Evidence, Run, as_run
from loopcoder.loopcount.runs import ordered
from loopcoder.records.files import record_file
from loopcoder.records.rows import (
    AnyRow,
    CostRow,
    DataIdentity,
    MeasureRow,
    ModelIdentity,
    SampleRow,
    ScoreRow,
    Source,
)

LN2 = math.log(2)


def source(
    name: str = "a", trained: int = 2, *, architecture: str = "arch", data: str = "text", length=64
) -> Source:
    model = ModelIdentity(
        name=f"model-{name}",
        hash=f"hash-{name}",
        architecture=architecture,
        trained_loops=trained,
        parameters=1000,
        layers=4,
        heads=4,
        width=256,
        window=65,
        dtype="float32",
    )
    text = DataIdentity(name=data, hash=f"hash-{data}", length=length)
    time = "2026-11-23T00:00:00+00:00"
    return Source(
        command="loopcoder probe", version="0.1.0", model=model, data=text, machine={}, time=time
    )


def samples(where: Source, bits: np.ndarray, sizes: Sequence[int]) -> list[AnyRow]:
    """`bits` [documents, loops] of documents of `sizes` bytes, a sample each."""
    return [
        SampleRow(
            source=where,
            document=f"d{i:04}",
            start=0,
            tokens=63,
            bytes=int(size),
            loops=bits.shape[1],
            nats=(row * LN2).tolist(),
            values={},
        )
        for i, (row, size) in enumerate(zip(bits, sizes, strict=True))
    ]


def text_sizes(documents: int, seed: int = 0) -> np.ndarray:
    """Bytes of documents, log-normal as those of code are."""
    return np.ceil(np.exp(np.random.default_rng(seed).normal(7, 1, documents))).astype(int)


def bits_of(sizes: np.ndarray, levels: Sequence[float], noise: float, seed: int) -> np.ndarray:
    """Bits [documents, loops]: levels in bits per byte, and noise of each document."""
    drawn = np.random.default_rng(seed).normal(0, noise, (len(sizes), len(levels)))
    return sizes[:, None] * (np.array(levels) + drawn)


def run_of(name: str, rows: Sequence[AnyRow]) -> Run:
    return as_run(f"{name}.jsonl", rows)


def trained_at(
    loops: int,
    level: float,
    *,
    name: str | None = None,
    documents: int = 40,
    noise: float = 0.01,
    seed: int | None = None,
    extra: Sequence[AnyRow] = (),
) -> Run:
    """A model trained at `loops`, with `level` bits per byte at its last loop."""
    name = name or f"r{loops}"
    sizes = text_sizes(documents)
    bits = bits_of(sizes, [level + 1.0] * (loops - 1) + [level], noise, seed or loops)
    return run_of(name, [*samples(source(name, loops), bits, sizes), *extra])


def evidence(*runs: Run, benches: Sequence[Any] = ()) -> Evidence:
    return ordered(runs, benches)


def measures(where: Source, means: Mapping[str, Mapping[int, float]], loops: int) -> list[AnyRow]:
    return [
        MeasureRow(source=where, measure=measure, loop=loop, mean=float(mean), loops=loops)
        for measure, by_loop in means.items()
        for loop, mean in by_loop.items()
    ]


def costs(where: Source, most: int = 4) -> list[AnyRow]:
    return [
        CostRow(
            source=where,
            loops=r,
            context=64,
            decode_flops=1000 * r,
            prefill_flops=64000 + 100 * r,
            training_flops=3000 * r,
            kv_bytes=1000 + 10 * r,
            carried_bytes=10 * (r - 1),
        )
        for r in range(1, most + 1)
    ]


def score(where: Source, task: str, value: float, loops: int) -> ScoreRow:
    return ScoreRow(
        source=where, task=task, metric="pass@1", value=value, unit="%", loops=loops, samples=100
    )


def bench(latency: Mapping[int, float], *, width: int = 256) -> dict[str, Any]:
    """An object of `bench decode --json`; `latency` in seconds by loops."""
    rows = [
        {
            "case": f"R{r} parallel",
            "measured": "decode",
            "engine": "loopcoder",
            "loops": r,
            "schedule": "parallel",
            "prefill": None,
            "quantization": None,
            "sequences": 1,
            "prompt": 512,
            "output": 1,
            "median_s": seconds,
        }
        for r, seconds in latency.items()
    ]
    first = min(latency)
    return {
        "machine": {"processor": "a processor", "threads": 2},
        "model": {
            "name": "bench-model",
            "layers": 4,
            "width": width,
            "query_heads": 4,
            "dtype": "bfloat16",
        },
        "rows": rows,
        "ratios": {
            f"R{r} parallel / R{first} parallel": seconds / latency[first]
            for r, seconds in latency.items()
            if r != first
        },
    }


def write(path: Path, rows: Sequence[AnyRow]) -> Path:
    with record_file(path) as file:
        for row in rows:
            file.write(row)
    return path


def write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path
