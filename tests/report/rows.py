"""Rows of made-up runs, through the classes that real records are read with; seeded."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from loopcoder.records.files import record_file
from loopcoder.records.rows import (
    AnyRow,
    Candidate,
    CostRow,
    DataIdentity,
    MatrixRow,
    MeasureRow,
    ModelIdentity,
    NoteRow,
    PassageRow,
    PassageToken,
    SampleRow,
    Source,
)

CODE = "def area(width, height):\n    # one number\n\treturn width * height\n"
HOSTILE = (
    "</script>",
    "<!--",
    "<b onclick='x()'>",
    '"quoted"',
    "&amp;",
    "\x00",
    "\u202eevil",
    "\u0639\u0631\u0628\u064a",
    "\U0001f469\u200d\U0001f4bb",
    "\u200b",
    "\ufffd",
    "\u2028",
    "{{ 7 * 7 }}",
    "$x^2$",
    "\r\n",
    "",
)
MACHINE = {"processor": "Made-up 9000", "cores": 2, "memory_bytes": 8 << 30, "torch": "2.13.0"}


def source(trained: int = 2, *, layers: int = 4, heads: int = 4, name: str | None = None) -> Source:
    """Where the rows of a model trained at `trained` loops come from."""
    model = ModelIdentity(
        name=name or f"model-r{trained}",
        hash=f"{trained:02d}" * 32,
        architecture="ab" * 32,
        trained_loops=trained,
        parameters=5_250_320,
        layers=layers,
        heads=heads,
        width=256,
        window=65,
        dtype="float32",
    )
    return Source(
        command=f"loopcoder probe model-r{trained} --data held.txt --out runs/r{trained}",
        version="0.1.0",
        model=model,
        data=DataIdentity(name="held.txt", hash="cd" * 32, length=256),
        seed=0,
        machine=MACHINE,
        time="2026-11-23T12:00:00Z",
    )


def probe_rows(
    loops: int = 2,
    *,
    trained: int | None = None,
    layers: int = 4,
    heads: int = 4,
    documents: int = 12,
    seed: int = 0,
    attention: bool = True,
) -> list[AnyRow]:
    """What a probe of one model leaves behind; with R = 1, what such a model has."""
    draw = np.random.default_rng(seed + 100 * loops)
    where = source(trained or loops, layers=layers, heads=heads)
    rows: list[AnyRow] = [*_samples(where, loops, documents, seed, draw)]
    rows += _states(where, loops, documents, draw)
    if attention:
        rows += _attention(where, loops, layers, heads, draw)
    rows += [_cost(where, count) for count in range(1, max(loops, 4) + 1)]
    rows.append(passage(where, loops, seed=seed))
    rows += _notes(where, loops, attention)
    return rows


def write_rows(path: Path, rows: Sequence[AnyRow]) -> Path:
    """Put rows into a file as the commands do."""
    with record_file(path) as writer:
        for row in rows:
            writer.write(row)
    return path


_SHIFT = (0.41, 0.06, 0.09)  # at loops 2, 3, 4
_RANK = (71.0, 78.5, 77.9, 72.2)
_LOSS = (2.90, 2.31, 2.35, 2.40)


def _samples(
    where: Source, loops: int, documents: int, seed: int, draw: np.random.Generator
) -> Iterator[SampleRow]:
    """Documents are the same for every model of a seed, so that models can be paired."""
    texts = random.Random(seed)
    assert where.model is not None
    own = _LOSS[where.model.trained_loops - 1]
    for number in range(documents):
        difficulty, windows = texts.gauss(0, 0.2), texts.randint(1, 3)
        for window in range(windows):
            noise = float(draw.normal(0, 0.02))
            exits = [
                255 * (own + 1.2 * (loops - loop) + difficulty + noise)
                for loop in range(1, loops + 1)
            ]
            rank = [_RANK[r - 1] + float(draw.normal(0, 3)) for r in range(1, loops + 1)]
            values = {"effective_rank": rank}
            if loops > 1:
                values["output_shift"] = [_SHIFT[r - 2] + noise for r in range(2, loops + 1)]
                values["update_angle"] = [-0.6 + noise for _ in range(2, loops + 1)]
            yield SampleRow(
                source=where,
                document=f"file_{number}.py",
                start=256 * window,
                tokens=255,
                bytes=900 + 10 * number,
                loops=loops,
                nats=exits,
                values=values,
            )


def _states(
    where: Source, loops: int, documents: int, draw: np.random.Generator
) -> Iterator[MeasureRow]:
    by_loop = {
        "loss": (1, _LOSS),
        "step_size": (1, (310.0, 846.0, 464.0, 1014.0)),
        "update_angle": (2, (-0.72, -0.46, 0.04)),
        "effective_rank": (1, _RANK),
        "fixed_point_gap": (1, (846.0, 470.0, 480.0, 500.0)),
        "offset_cost": (2, (14.2, 14.4, 14.1)),
        "output_shift": (2, _SHIFT),
        "truth_rank": (1, (9.0, 2.0, 2.0, 3.0)),
        "output_entropy": (1, (3.1, 2.2, 2.15, 2.2)),
        "peak_share": (2, (1.0,) if loops == 2 else (0.6, 0.15, 0.25)[: loops - 1]),
    }
    for measure, (first, values) in by_loop.items():
        for loop, value in enumerate(values[: loops - first + 1], first):
            half = abs(value) * (0.02 + 0.02 * float(draw.random()))
            yield MeasureRow(
                source=where,
                measure=measure,
                loop=loop,
                mean=value,
                low=value - half,
                high=value + half,
                sd=half * 2,
                samples=2 * documents,
                documents=documents,
                loops=loops,
                conventions={"state": "residual before the final norm", "first_token": False},
            )


def _attention(
    where: Source, loops: int, layers: int, heads: int, draw: np.random.Generator
) -> Iterator[MeasureRow | MatrixRow]:
    per_head = {
        "attention_entropy_global": (1, 2.0),
        "attention_entropy_local": (2, 1.4),
        "attention_entropy_mixed": (1, 2.2),
        "attention_shift": (2, 0.8),
        "gate": (2, 0.4),
    }
    for loop in range(1, loops + 1):
        for layer in range(layers):
            for measure, (first, value) in per_head.items():
                if loop >= first:
                    means = value * draw.uniform(0.4, 1.6, heads) + 0.05 * layer
                    means = np.minimum(means, 1.0) if measure == "gate" else means
                    yield _per_layer(where, loops, loop, layer, measure, means.tolist())
            cosine = np.corrcoef(draw.normal(size=(heads, 2 * heads)) + 0.7)
            yield _per_layer(where, loops, loop, layer, "head_rank", heads * 0.6 - 0.1 * loop)
            yield _per_layer(where, loops, loop, layer, "head_cosine", 0.5 + 0.05 * loop)
            yield MatrixRow(
                source=where,
                loop=loop,
                layer=layer,
                mean=np.round(np.abs(cosine), 4).tolist(),
                samples=24,
                loops=loops,
            )


def _per_layer(
    where: Source, loops: int, loop: int, layer: int, measure: str, mean: float | list[float]
) -> MeasureRow:
    def scaled(by: float) -> float | list[float]:
        return [by * value for value in mean] if isinstance(mean, list) else by * mean

    return MeasureRow(
        source=where,
        measure=measure,
        loop=loop,
        layer=layer,
        mean=mean,
        low=scaled(0.98),
        high=scaled(1.02),
        sd=scaled(0.1),
        samples=24,
        documents=12,
        loops=loops,
        conventions={"queries": "all", "logarithm": "natural"},
    )


def _cost(where: Source, loops: int) -> CostRow:
    return CostRow(
        source=where,
        loops=loops,
        context=256,
        decode_flops=4_000_000 + 9_000_000 * loops,
        prefill_flops=2_000_000_000 + 400_000_000 * loops,
        training_flops=15_000_000 + 30_000_000 * loops,
        kv_bytes=524_288 + 133_120 * (loops - 1),
        carried_bytes=512 * (loops - 1),
    )


def passage(where: Source, loops: int, *, seed: int = 0, hostile: bool = True) -> PassageRow:
    """Code cut into pieces, then tokens that try to leave the page."""
    draw = np.random.default_rng(seed)
    texts = [CODE[i : i + 3] for i in range(0, len(CODE), 3)]
    texts += HOSTILE if hostile else ()
    tokens = [_token(text, loops, draw, first=i == 0) for i, text in enumerate(texts)]
    return PassageRow(source=where, document="area.py", loops=loops, tokens=tokens)


def _token(text: str, loops: int, draw: np.random.Generator, *, first: bool) -> PassageToken:
    if first:
        empty: list[float] = []
        return PassageToken(
            text=text, shift=empty, entropy=empty, rank=[], probability=empty, candidates=[]
        )
    candidates = []
    for _ in range(loops):
        shares = np.sort(draw.dirichlet([0.5] * 6))[::-1][:5]
        names = [text, *draw.choice([*HOSTILE, "self", "(", " x"], 4).tolist()]
        candidates.append(
            [
                Candidate(text=name, probability=round(float(share), 4))
                for name, share in zip(names, shares, strict=True)
            ]
        )
    return PassageToken(
        text=text,
        shift=[float(draw.exponential(0.5 / loop)) for loop in range(1, loops)],
        entropy=[float(draw.uniform(0, 4)) for _ in range(loops)],
        rank=[int(draw.integers(1, 40)) for _ in range(loops)],
        probability=[float(draw.uniform(0, 1)) for _ in range(loops)],
        candidates=candidates,
    )


def _notes(where: Source, loops: int, attention: bool) -> Iterator[NoteRow]:
    if loops == 1:
        text = "one loop: nothing follows it, so no shift, angle, gate or offset can be measured"
        yield NoteRow(source=where, text=text)
    if not attention:
        text = "attention was not measured: --no-attention was given"
        yield NoteRow(source=where, measure="attention_shift", text=text)
