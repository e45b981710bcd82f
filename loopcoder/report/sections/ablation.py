"""What each part of the design does: a study's other arms beside its main one."""

from collections.abc import Sequence
from statistics import fmean

from loopcoder.loopcount import ArmDifference, Study, arm_differences
from loopcoder.loopcount.arms import BITS
from loopcoder.loopcount.runs import Run
from loopcoder.records.rows import ScoreRow, TimingRow
from loopcoder.report import plots
from loopcoder.report.numbers import capital, in_loops, interval, number, signed, visible
from loopcoder.report.parts import Figure, Panel, Section, Table
from loopcoder.report.sections.common import NOTHING, of_study, without_empty

_PAPER = "ablation"  # in the citation of the published table
_TITLES = {"direct": "Depth tasks, direct", "steps": "Depth tasks, with steps"}
Found = Sequence[ArmDifference]


def ablation(found: Sequence[Study], published: Sequence[Run]) -> Section | None:
    """Every arm beside the main arm at as many loops; None where there are no other arms."""
    having = [(study, arms) for study in found if (arms := arm_differences(study))]
    if not having:
        return None
    several = len(found) > 1
    papers = [table for run in published if (table := _published(run))]
    return Section(
        name="ablation",
        title="Ablation",
        lead="Each arm differs from the main one in what its name says, and is compared with the "
        "main models of as many loops. A difference is the arm's value minus theirs: of bits per "
        "byte less is better, of what was right more.",
        figures=[_figure(study, arms, i, several) for i, (study, arms) in enumerate(having)],
        tables=[*(_table(study, arms, several) for study, arms in having), *papers],
    )


def _measures(arms: Found) -> list[str]:
    return list(dict.fromkeys(arm.measure for arm in arms))


def _unit(measure: str) -> str:
    return BITS if measure == BITS else "points"


def _title(measure: str) -> str:
    return _TITLES.get(measure, capital(measure))


def _figure(study: Study, arms: Found, number_of_study: int, several: bool) -> Figure:
    name = f"ablation-{number_of_study}"
    intervals = any(arm.difference.low is not None for arm in arms)
    return Figure(
        name=name,
        title=of_study("Difference from the main arm", study, several=several),
        panels=[
            _panel(f"{name}-{i}", measure, [arm for arm in arms if arm.measure == measure])
            for i, measure in enumerate(_measures(arms))
        ],
        sentence=" ".join(
            _said([arm for arm in arms if arm.measure == measure]) for measure in _measures(arms)
        ),
        key="Bars: 95 % intervals; the table says over what." if intervals else "",
        tables=[_differences(arms)],
    )


def _panel(name: str, measure: str, arms: Found) -> Panel:
    bars = [
        (_label(arm), arm.difference.value, arm.difference.low, arm.difference.high) for arm in arms
    ]
    return plots.differences(name, _title(measure), f"difference, {_unit(measure)}", bars)


def _label(arm: ArmDifference) -> str:
    return f"{visible(arm.arm)}, R = {arm.loops}"


def _said(arms: Found) -> str:
    """The arms that do best and worst beside the main one."""
    better = -1 if arms[0].measure == BITS else 1
    ranked = sorted(arms, key=lambda arm: -better * arm.difference.value)
    told = [f"{_named(ranked[0])} does best ({_change(ranked[0])})"]
    if len(ranked) > 1:
        told.append(f"{_named(ranked[-1])} worst ({_change(ranked[-1])})")
    return f"{_title(arms[0].measure)}: {' and '.join(told)}."


def _named(arm: ArmDifference) -> str:
    return f"{visible(arm.arm)} at {in_loops(arm.loops)}"


def _change(arm: ArmDifference) -> str:
    found = arm.difference
    span = "" if found.low is None else f"; 95 %: {interval(found.low, found.high)}"
    return f"{signed(found.value)} {_unit(arm.measure)}{span}"


def _differences(arms: Found) -> Table:
    table = Table(
        columns=(
            "measure",
            "arm",
            "loops",
            "the arm's",
            "the main arm's",
            "difference",
            "95 % interval",
            "over",
            "seeds of the arm",
            "of the main arm",
        ),
        rows=[
            (
                f"{_title(arm.measure)}, {_unit(arm.measure)}"
                if arm.measure != BITS
                else capital(BITS),
                visible(arm.arm),
                str(arm.loops),
                number(arm.level, 4),
                number(arm.main_level, 4),
                signed(arm.difference.value),
                interval(arm.difference.low, arm.difference.high),
                arm.counted or NOTHING,
                str(arm.models),
                str(arm.main_models),
            )
            for arm in arms
        ],
        caption="Arms beside the main arm; intervals pair what both were asked, where they can",
        words=frozenset({0, 1, 7}),
    )
    return without_empty(table)


def _table(study: Study, arms: Found, several: bool) -> Table:
    """A line for each arm and loop count, and above them the main arm's own."""
    measures = _measures(arms)
    values = {(arm.arm, arm.loops, arm.measure): arm for arm in arms}
    rows: list[tuple[str, ...]] = []
    for loops in dict.fromkeys(arm.loops for arm in arms):
        at = [arm for arm in arms if arm.loops == loops]
        main = next(g for g in study.main_groups if g[0].loops == loops)
        first = {arm.measure: arm for arm in reversed(at)}
        cells = [_level(first.get(measure), main=True) for measure in measures]
        rows.append((str(loops), f"{visible(main[0].arm)} (main)", "1", *_flat(cells)))
        for name in dict.fromkeys(arm.arm for arm in at):
            cells = [_level(values.get((name, loops, measure))) for measure in measures]
            rows.append((str(loops), visible(name), _flops(study, name, loops), *_flat(cells)))
    titles = [_title(m) if m == BITS else f"{_title(m)}, % right" for m in measures]
    table = Table(
        columns=(
            "loops",
            "arm",
            "training FLOPs, times the main arm's",
            *_flat([(title, "difference (95 % interval)") for title in titles]),
        ),
        rows=rows,
        caption=of_study("Arms at as many loops, means over seeds", study, several=several),
        words=frozenset({0, 1}),
    )
    return without_empty(table)


def _level(arm: ArmDifference | None, *, main: bool = False) -> tuple[str, str]:
    if arm is None:
        return NOTHING, NOTHING
    if main:
        return number(arm.main_level, 4), NOTHING
    found = arm.difference
    span = "" if found.low is None else f" ({interval(found.low, found.high)})"
    return number(arm.level, 4), f"{signed(found.value)}{span}"


def _flat(pairs: Sequence[tuple[str, str]]) -> list[str]:
    return [cell for pair in pairs for cell in pair]


def _flops(study: Study, arm: str, loops: int) -> str:
    """What its training cost, all counts of an elastic model together."""
    own = [m for m in study.models if m.arm == arm and not m.main and loops in m.counts]
    main = [model for model in study.models if model.main and model.loops == loops]
    ours, theirs = (
        [model.training.flops for model in models if model.training] for models in (own, main)
    )
    if not ours or not theirs or not fmean(theirs):
        return NOTHING
    return number(fmean(ours) / fmean(theirs))


def _published(run: Run) -> Table | None:
    """The paper's table, where the evidence has it."""
    scores = [row for row in run.of(ScoreRow) if _PAPER in (row.source.citation or "")]
    timings = [row for row in run.of(TimingRow) if _PAPER in (row.source.citation or "")]
    if not scores or not timings:
        return None
    citation = timings[0].source.citation or run.name
    rows = []
    for score in scores:
        task, _, case = score.task.partition(", ")
        # Whole models have the task's plain name; what they are called stands with their timings.
        plain = [t.case for t in timings if t.loops == score.loops][-1:]
        case = case or (plain[0] if plain else f"PLT-{score.loops}")
        cost = {t.measured: t.value for t in timings if t.case == case}
        rows.append(
            (
                visible(case),
                number(score.value),
                number(cost.get("decode_ms")),
                number(cost.get("kv_megabytes")),
            )
        )
    return Table(
        columns=("design", f"{visible(task)}, %", "decode latency, ms", "keys and values, MB"),
        rows=rows,
        caption=f"Published: {visible(citation)}",
    )
