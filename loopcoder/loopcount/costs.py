"""What loops cost: measured by `bench`, by formula, or published; each says which."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from loopcoder.loopcount.advice import Cost
from loopcoder.loopcount.runs import Bench, Evidence, Run
from loopcoder.loopcount.sweep import Basis
from loopcoder.records.rows import CostRow, TimingRow

DECODE, KV, FLOPS = "decode latency", "keys and values", "decode FLOPs"
_TIMED = {"decode": DECODE, "prefill": "prefill latency"}
_FORMULAS = (
    ("decode_flops", FLOPS, "FLOP"),
    ("prefill_flops", "prefill FLOPs", "FLOP"),
    ("training_flops", "training FLOPs", "FLOP"),
    ("kv_bytes", KV, "B"),
)
_PUBLISHED = {"decode_ms": (DECODE, "ms"), "kv_megabytes": (KV, "MB")}


def collect_costs(evidence: Evidence) -> tuple[Cost, ...]:
    """Every cost that has a value for one loop to compare with."""
    found = [cost for bench in evidence.benches for cost in _measured(bench)]
    measured = evidence.measured
    of_formula = [run for run in (measured or evidence.published) if run.of(CostRow)]
    # By formula a cost depends on the shape alone; the model with the most loops has its gates.
    found += [cost for run in of_formula[-1:] for cost in _by_formula(run)]
    found += [cost for run in evidence.published for cost in _published(run)]
    return tuple(sorted(found, key=lambda c: (c.what, _ORDER.index(c.basis), c.loops)))


_ORDER: tuple[Basis, ...] = ("measured", "formula", "published")


def cost_ratio(costs: Iterable[Cost], what: str, loops: int) -> Cost | None:
    """The cost that counts: measured before formula before published.

    Of several measurements the dearest; of an ablation its last line, which is the whole design.
    """
    own = [cost for cost in costs if (cost.what, cost.loops) == (what, loops)]
    for basis in _ORDER:
        same = [cost for cost in own if cost.basis == basis]
        if same:
            return same[-1] if basis == "published" else max(same, key=lambda cost: cost.ratio)
    return None


def _measured(bench: Bench) -> Iterator[Cost]:
    rows = [row for row in bench.rows if _is_usual(row)]
    for row in rows:
        base = next((other for other in rows if other["loops"] == 1 and _alike(row, other)), None)
        if base is None:
            continue
        timed = row["measured"] in _TIMED
        key, unit = ("median_s", "s") if timed else ("kv_in_use", "B")
        paired = bench.ratios.get(f"{row['case']} / {base['case']}")
        yield Cost(
            loops=row["loops"],
            what=_TIMED.get(row["measured"], KV),
            value=row[key],
            unit=unit,
            ratio=1.0 if row is base else paired or row[key] / base[key],
            basis="measured",
            conditions=_conditions(bench, row),
            source=bench.name,
        )


def _is_usual(row: Any) -> bool:
    """Our own engine as it runs by default: loops in parallel, prefill by tails."""
    if not isinstance(row, dict) or not isinstance(row.get("loops"), int):
        return False
    if row.get("measured") == "memory":
        return bool(row.get("kv_in_use"))
    usual = row.get("schedule") in (None, "parallel") and row.get("prefill") in (None, "tail")
    own = row.get("engine") == "loopcoder"
    return row.get("measured") in _TIMED and own and usual and bool(row.get("median_s"))


def _alike(row: dict[str, Any], other: dict[str, Any]) -> bool:
    same = ("measured", "quantization", "sequences", "prompt", "output", "context")
    return all(row.get(key) == other.get(key) for key in same)


def _conditions(bench: Bench, row: dict[str, Any]) -> str:
    machine = bench.machine
    tokens = row.get("prompt", row.get("context"))
    parts = (
        f"{tokens} tokens",
        f"batch {row.get('sequences', 1)}",
        row.get("quantization") or bench.model.get("dtype"),
        machine.get("gpu") or machine.get("processor"),
        f"threads {machine['threads']}" if machine.get("threads") else None,
    )
    return ", ".join(str(part) for part in parts if part)


def _by_formula(run: Run) -> Iterator[Cost]:
    rows = run.of(CostRow)
    base = next((row for row in rows if row.loops == 1), None)
    for row in rows:
        for field, what, unit in _FORMULAS:
            if base is not None and row.context == base.context and getattr(base, field):
                yield Cost(
                    loops=row.loops,
                    what=what,
                    value=getattr(row, field),
                    unit=unit,
                    ratio=getattr(row, field) / getattr(base, field),
                    basis="formula",
                    conditions=f"{row.context} tokens",
                    source=run.name,
                )


def _published(run: Run) -> Iterator[Cost]:
    rows: Sequence[TimingRow] = run.of(TimingRow)
    for row in rows:
        base = next(
            (
                other
                for other in rows
                if other.loops == 1
                and (other.measured, other.source.citation) == (row.measured, row.source.citation)
            ),
            None,
        )
        if base is not None:
            what, unit = _PUBLISHED[row.measured]
            yield Cost(
                loops=row.loops,
                what=what,
                value=row.value,
                unit=unit,
                ratio=row.value / base.value,
                basis="published",
                conditions=row.case,
                source=row.source.citation or run.name,
            )
