"""Gain and cost of each loop side by side (SPEC.md section 6)."""

from collections.abc import Sequence

from loopcoder.loopcount.advice import Cost, LoopRow
from loopcoder.loopcount.costs import DECODE, FLOPS, KV, cost_ratio
from loopcoder.loopcount.diagnostics import Diagnostics
from loopcoder.loopcount.sweep import Sweep


def loop_rows(
    sweeps: Sequence[Sweep], found: Diagnostics | None, costs: Sequence[Cost]
) -> tuple[LoopRow, ...]:
    """A row for each loop that a sweep or the diagnostics know of; costs beyond are left out."""
    last = max([loops for sweep in sweeps for loops in sweep.loops] + [found.last if found else 0])
    sweep = sweeps[0] if sweeps else None
    return tuple(_row(loop, sweep, found, costs) for loop in range(1, last + 1))


def _row(
    loop: int, sweep: Sweep | None, found: Diagnostics | None, costs: Sequence[Cost]
) -> LoopRow:
    def mean(measure: str) -> float | None:
        return found.mean(measure, loop) if found else None

    levels = {level.loops: level.value for level in sweep.levels} if sweep else {}
    gain = None
    if sweep is not None and loop in sweep.loops[1:]:
        gain = sweep.gain(max(r for r in sweep.loops if r < loop), loop).value
    rise = found.step("effective_rank", loop) if found and loop > 1 else None
    shift, toll = mean("output_shift"), mean("offset_cost")
    latency, flops, kv = (cost_ratio(costs, what, loop) for what in (DECODE, FLOPS, KV))
    return LoopRow(
        loop=loop,
        level=levels.get(loop),
        gain=gain,
        gain_unit=sweep.unit if sweep else None,
        output_shift=shift,
        effective_rank=mean("effective_rank"),
        rank_gain=rise.value if rise else None,
        update_angle=mean("update_angle"),
        truth_rank=mean("truth_rank"),
        output_entropy=mean("output_entropy"),
        offset_cost=toll,
        per_shift=toll / shift if toll is not None and shift else None,
        latency=latency.ratio if latency else None,
        latency_basis=latency.basis if latency else None,
        decode_flops=flops.ratio if flops else None,
        kv=kv.ratio if kv else None,
        kv_basis=kv.basis if kv else None,
    )
