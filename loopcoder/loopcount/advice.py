"""What an advice consists of: numbers with their source, and sentences made from them."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from loopcoder.loopcount.sweep import Basis, Level

Question = Literal["run this checkpoint", "train and run"]
Confidence = Literal["sure", "likely", "weak", "cannot tell"]
Verdict = Literal["for", "against", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one measure says of `more` loops beside `fewer`: for them, against them, or neither.

    `value` is better the larger it is only where `about` is a gain; the sentence says which way.
    `low` and `high` bound 95 %, `low99` and `high99` 99 %.
    """

    about: str
    fewer: int
    more: int
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    low99: float | None = None
    high99: float | None = None
    verdict: Verdict
    basis: Basis
    source: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What `loops` loops cost, and how many times that of one loop."""

    loops: int
    what: str
    value: float
    unit: str
    ratio: float
    basis: Basis
    conditions: str
    source: str


@dataclass(frozen=True, kw_only=True)
class LossTable:
    """Loss or scores by loop count; `decides` says whether the advice rests on it."""

    name: str
    unit: str
    of: str
    source: str
    basis: Basis
    decides: bool
    levels: tuple[Level, ...]
    gains: tuple[Finding, ...]  # each count beside the one before it


@dataclass(frozen=True, kw_only=True)
class LoopRow:
    """One loop's gain and cost side by side; None is what nobody measured.

    `gain` is of the deciding table, over the count before. `per_shift` is offset_cost over
    output_shift: a length over nats, which orders the loops of one model and compares no two.
    """

    loop: int
    level: float | None = None
    gain: float | None = None
    gain_unit: str | None = None
    output_shift: float | None = None
    effective_rank: float | None = None
    rank_gain: float | None = None
    update_angle: float | None = None
    truth_rank: float | None = None
    output_entropy: float | None = None
    offset_cost: float | None = None
    per_shift: float | None = None
    latency: float | None = None
    latency_basis: Basis | None = None
    decode_flops: float | None = None
    kv: float | None = None
    kv_basis: Basis | None = None


@dataclass(frozen=True, kw_only=True)
class Advice:
    """How many loops, how sure, and all it rests on. `recommended_loops` None: cannot tell.

    `compared` are the loop counts that direct evidence (loss or scores) has; `lowest_share` the
    share of resamples in which the recommended count is the best of the candidates. `diagnosed` is
    what the diagnostics alone would say.
    """

    question: Question
    recommended_loops: int | None
    confidence: Confidence
    basis: str
    lowest_share: float | None
    compared: tuple[int, ...]
    diagnosed: int | None
    reasons: tuple[Finding, ...]
    against: tuple[Finding, ...]
    findings: tuple[Finding, ...]
    costs: tuple[Cost, ...]
    would_change: tuple[str, ...]
    caveats: tuple[str, ...]
    tables: tuple[LossTable, ...]
    per_loop: tuple[LoopRow, ...]
    sources: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)
