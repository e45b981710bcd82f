"""A made-up study: three loop counts with two seeds each, four other arms, tasks and trials."""

from collections.abc import Iterator, Mapping, Sequence

from loopcoder.records.rows import AnyRow, SampleRow, Source
from tests.loopcount.study import HOPS, answers, depth, training
from tests.report.rows import probe_rows

BITS = {1: 1.412, 2: 1.371, 3: 1.366}
ARMS = {"serial": 1.365, "own-kv": 1.369, "no-gate": 1.398}
TASKS = ("chains", "brackets", "programs")
SETTINGS = {"learning_rate": 0.003, "schedule": "cosine", "widths": [64, 128], "tied": True}


def study_files(*, probes: bool = True, name: str = "small") -> dict[str, Sequence[AnyRow]]:
    """Record files by their names in the study's directory."""
    files: dict[str, Sequence[AnyRow]] = {}
    for arm, loops, seed, bits in _models():
        main = arm == "plt"
        more: dict[str, object] = {"settings": SETTINGS, "study": name}
        more["flops"] = 1e15 * (2 if arm == "deep" else loops)
        if arm == "elastic":
            more |= {"by_loops": {r: BITS[r] + 0.01 for r in BITS}, "flops": 2.1e15}
            more |= {"start_bits_per_byte": 1.52}
        row = training(arm, loops, seed, bits, main=main, **more)
        folder = f"records/{arm}-R{loops}-s{seed}"
        rows: list[AnyRow] = [row, *_depth(arm, loops, seed, main)]
        files[f"{folder}/study.jsonl"] = [_renamed(r, name) for r in rows]
        if probes:
            files[f"{folder}/probe.jsonl"] = [*_probe(row.source, loops, bits - BITS[loops])]
    files["records/trials.jsonl"] = [*_trials(name)]
    return files


def _models() -> Iterator[tuple[str, int, int, float]]:
    for loops, bits in BITS.items():
        for seed in (0, 1):
            yield "plt", loops, seed, bits + 0.004 * (seed - 0.5)
    for arm, bits in ARMS.items():
        yield arm, 2, 0, bits
    yield "elastic", 3, 0, BITS[3] + 0.01
    yield "deep", 1, 0, 1.409


def _depth(arm: str, loops: int, seed: int, main: bool) -> Iterator[AnyRow]:
    counts = (1, 2, 3) if arm == "elastic" else (loops,)
    for run_at in counts:
        for number, task in enumerate(TASKS):
            for mode in ("direct", "steps"):
                reach = 1.5 * run_at + number + (6 if mode == "steps" else 0)
                reach -= 1 if arm == "no-gate" else 0
                shares = [max(0.1, min(1.0, 1.35 - hops / (reach + 1))) for hops in HOPS]
                right = answers(shares, seed=seed)
                yield depth(arm, loops, seed, task, mode, right, main=main, run_at=run_at)


def _renamed(row: AnyRow, name: str) -> AnyRow:
    return row.model_copy(update={"study": name})


def _probe(where: Source, loops: int, worse: float) -> Iterator[AnyRow]:
    """What a probe writes, of the study's own model; `worse` in bits per byte, about."""
    for row in probe_rows(loops, layers=2, heads=2, attention=False):
        own = {"source": row.source.model_copy(update={"model": where.model})}
        if isinstance(row, SampleRow):
            noise = 0.002 * (hash_of(row.document) % 7 - 3)
            own["nats"] = [nats + row.bytes * (worse + noise) for nats in row.nats]
        yield row.model_copy(update=own)


def hash_of(text: str) -> int:
    """The same in every process."""
    return sum(text.encode())


def _trials(name: str) -> Iterator[AnyRow]:
    for arm, loops in [("plt", r) for r in BITS] + [(arm, 2) for arm in ARMS]:
        for number, rate in enumerate((0.001, 0.003, 0.01)):
            settings = {**SETTINGS, "learning_rate": rate}
            bits = BITS[loops] + 0.1 + 0.02 * abs(number - 1)
            yield training(
                arm, loops, 0, bits, stage="trial", study=name, settings=settings, steps=400
            )


def hostile_files(text: str) -> Mapping[str, Sequence[AnyRow]]:
    """A small study all of whose names are `text`."""
    rows = [
        training("plt", 2, 0, 1.3, study=text, settings={text: text}),
        depth("plt", 2, 0, text, "direct", answers([0.5] * 6)).model_copy(update={"study": text}),
    ]
    other = training(text, 2, 0, 1.4, main=False, study=text, settings={text: [1, 2]})
    trial = training(text, 2, 0, 1.4, stage="trial", study=text, settings={text: 0.1})
    return {"a.jsonl": rows, "b.jsonl": [other], "trials.jsonl": [trial]}
