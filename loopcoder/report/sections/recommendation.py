"""The advice, first of all: how many loops, how sure, why, and what would change it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from loopcoder.loopcount.advice import Advice, Finding, LoopRow
from loopcoder.report.numbers import files, number, sentence, signed
from loopcoder.report.parts import Section, Table


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the template shows."""

    headline: str
    confidence: str
    basis: str
    decided: bool
    reasons: Mapping[str, Sequence[str]]  # sentences by where they come from
    against: Mapping[str, Sequence[str]]
    would_change: Sequence[str]
    caveats: Sequence[str]
    table: Table | None


def recommendation(advice: Advice | None, why_not: str = "") -> Section:
    """The section; without an advice, `why_not` says what kept it from being given."""
    if advice is None:
        return Section(name="recommendation", title="How many loops", missing=[why_not])
    decided = advice.recommended_loops is not None
    return Section(
        name="recommendation",
        title="How many loops",
        template="recommendation.html",
        content=Verdict(
            headline=_headline(advice),
            confidence=advice.confidence,
            basis=sentence(advice.basis),
            decided=decided,
            reasons=_by_source(advice.reasons if decided else advice.findings),
            against=_by_source(advice.against),
            would_change=[sentence(line) for line in advice.would_change],
            caveats=[sentence(line) for line in advice.caveats],
            table=_per_loop(advice.per_loop),
        ),
    )


def _headline(advice: Advice) -> str:
    loops = advice.recommended_loops
    if loops is None:
        return "These measurements cannot tell"
    count = "one loop" if loops == 1 else f"{loops} loops"
    if advice.question == "run this checkpoint":
        return f"Run this checkpoint with {count}"
    return f"Train and run with {count}"


def _by_source(findings: Sequence[Finding]) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {}
    for finding in findings:
        source = f"{finding.basis}: {files(finding.source, finding.basis)}"
        told.setdefault(source, []).append(sentence(finding.sentence))
    return told


_Show = Callable[[LoopRow], str]
_LINES: tuple[tuple[str, str, _Show], ...] = (
    ("gain", "gain over the count before", lambda row: _signed(row.gain)),
    ("level", "loss or score", lambda row: number(row.level)),
    ("output_shift", "output shift \u0394p, nats", lambda row: number(row.output_shift)),
    ("rank_gain", "change of effective rank, directions", lambda row: _signed(row.rank_gain)),
    ("update_angle", "update angle, cosine", lambda row: number(row.update_angle)),
    ("truth_rank", "truth rank", lambda row: number(row.truth_rank)),
    ("offset_cost", "offset cost \u03a9, norm", lambda row: number(row.offset_cost)),
    ("per_shift", "\u03a9/\u0394p, norm per nat", lambda row: number(row.per_shift)),
    (
        "latency",
        "decode latency, times one loop",
        lambda row: _times(row.latency, row.latency_basis),
    ),
    (
        "decode_flops",
        "decode FLOPs, times one loop",
        lambda row: _times(row.decode_flops, "formula"),
    ),
    ("kv", "keys and values, times one loop", lambda row: _times(row.kv, row.kv_basis)),
)


def _per_loop(rows: Sequence[LoopRow]) -> Table | None:
    """Gain above cost, a column for each loop count."""
    lines = [
        (_named(label, name, rows), *(show(row) for row in rows))
        for name, label, show in _LINES
        if any(getattr(row, name) is not None for row in rows)
    ]
    if not lines:
        return None
    return Table(
        columns=("", *(f"loop {row.loop}" for row in rows)),
        rows=lines,
        caption="Gain and cost, loop by loop",
    )


def _named(label: str, name: str, rows: Sequence[LoopRow]) -> str:
    units = {row.gain_unit for row in rows if row.gain_unit}
    return (
        f"{label}, {' or '.join(sorted(units))}" if name in ("gain", "level") and units else label
    )


def _signed(value: float | None) -> str:
    return number(None) if value is None else signed(value)


def _times(value: float | None, basis: str | None) -> str:
    return number(None) if value is None else f"{number(value)} ({basis})"
