"""KV bytes, windows and carried states of a running engine, beside the formulas."""

from typing import Any

from torch import Tensor

from loopcoder.bench.engines import add_all, new_engine, run_until_written
from loopcoder.bench.prompts import draw_prompts
from loopcoder.engine.core import Engine
from loopcoder.model import cost
from loopcoder.model.plt import PLT


def measure_memory(
    model: PLT, job: dict[str, Any], *, loops: int, context: int, sequences: int
) -> dict[str, Any]:
    """Bytes once `sequences` prompts of `context` tokens have been read; all in bytes.

    `kv_in_use` are whole pages, of loop 1 (`loop1_pages`) and of the later loops' windows
    (`ring_pages`); the formulas are those of `loopcoder.model.cost` (SPEC.md section 2).
    """
    engine = new_engine(model, sequences=sequences, positions=context + 1, loops=loops)
    work = {"prompt": context, "sequences": sequences}
    add_all(engine, draw_prompts(job, work, 0), loops=loops, tokens=2)
    run_until_written(engine, sequences)
    stats, wide = engine.stats(), model.model.norm.weight.dtype.itemsize
    config = model.config
    return {
        "case": f"R{loops} at {context}",
        "measured": "memory",
        "loops": loops,
        "sequences": sequences,
        "context": context,
        "kv_in_use": stats["kv_bytes_in_use"],
        "kv_reserved": stats["kv_bytes_reserved"],
        "kv_formula": sequences * cost.kv_bytes(config, context, loops, wide),
        **_pages(engine),
        "ring_formula": sequences * cost.ring_bytes(config, loops, wide),
        "carried": _carried(engine, loops),
        "carried_formula": sequences * cost.carried_bytes(config, loops, wide),
    }


def _pages(engine: Engine) -> dict[str, int]:
    holdings = [s.holding for s in engine.scheduler.running if s.holding is not None]
    size = engine.memory.shape.page_bytes
    return {
        "loop1_pages": size * sum(len(holding.pages) for holding in holdings),
        "ring_pages": size * sum(len(ring) for holding in holdings for ring in holding.rings),
    }


def _carried(engine: Engine, loops: int) -> int:
    slots = [sequence.slot for sequence in engine.scheduler.running]
    states = [state for slot in slots for state in engine.scheduler.keeper.states(slot, loops)]
    return sum(state.nbytes for state in states if isinstance(state, Tensor))


def memory_ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """KV bytes in use of each row over those of the first row of the same context."""
    base: dict[int, dict[str, Any]] = {}
    found = {}
    for row in rows:
        first = base.setdefault(row["context"], row)
        if first is not row:
            found[f"{row['case']} / {first['case']}"] = row["kv_in_use"] / first["kv_in_use"]
    return found
