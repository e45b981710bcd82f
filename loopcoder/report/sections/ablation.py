"""What each part of the design does: a study's other arms beside its main one."""

from collections.abc import Sequence

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
        lead="Each arm differs from the main one in what its name says. It is compared with the "
        "main models of as many loops, and with those of another count where they took as much "
        "training compute. A difference is the arm's value minus theirs: of bits per byte less is "
        "better, of what was right more.",
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
        key=_key(arms),
        tables=[_differences(arms)],
    )


def _key(arms: Found) -> str:
    intervals = any(arm.difference.low is not None for arm in arms)
    told = ["Bars: 95 % intervals; the table says over what."] if intervals else []
    for arm in [arm for arm in arms if arm.loops != arm.main_loops][:1]:
        told.append(
            f"R = {arm.loops} to {arm.main_loops}: of {in_loops(arm.loops)}, beside main models "
            f"of {in_loops(arm.main_loops)} with as much training compute."
        )
    return " ".join(told)


def _panel(name: str, measure: str, arms: Found) -> Panel:
    bars = [
        (_label(arm), arm.difference.value, arm.difference.low, arm.difference.high) for arm in arms
    ]
    return plots.differences(name, _title(measure), f"difference, {_unit(measure)}", bars)


def _label(arm: ArmDifference) -> str:
    other = "" if arm.loops == arm.main_loops else f" to {arm.main_loops}"
    return f"{visible(arm.arm)}, R = {arm.loops}{other}"


def _said(arms: Found) -> str:
    """The arms that do best and worst beside the main one."""
    better = -1 if arms[0].measure == BITS else 1
    ranked = sorted(arms, key=lambda arm: -better * arm.difference.value)
    told = [f"{_named(ranked[0])} does best ({_change(ranked[0])})"]
    if len(ranked) > 1:
        told.append(f"{_named(ranked[-1])} worst ({_change(ranked[-1])})")
    return f"{_title(arms[0].measure)}: {' and '.join(told)}."


def _named(arm: ArmDifference) -> str:
    other = "" if arm.loops == arm.main_loops else f" beside {arm.main_loops}"
    return f"{visible(arm.arm)} at {in_loops(arm.loops)}{other}"


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
            "main arm's loops",
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
                str(arm.main_loops),
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
        words=frozenset({0, 1, 8}),
    )
    return without_empty(table)


def _table(study: Study, arms: Found, several: bool) -> Table:
    """A line for each arm and loop count, and above them the main arm's own."""
    measures = _measures(arms)
    main_name = visible(study.main_groups[0][0].arm)
    rows: list[tuple[str, ...]] = []
    for loops in dict.fromkeys(arm.main_loops for arm in arms):
        at = [arm for arm in arms if arm.main_loops == loops]
        first = {arm.measure: arm for arm in reversed(at)}
        cells = [_level(first.get(measure), main=True) for measure in measures]
        rows.append((f"{main_name} (main)", str(loops), "1", *_flat(cells)))
        for name, own in dict.fromkeys((arm.arm, arm.loops) for arm in at):
            found = {arm.measure: arm for arm in at if (arm.arm, arm.loops) == (name, own)}
            cells = [_level(found.get(measure)) for measure in measures]
            flops = number(next(iter(found.values())).flops)
            rows.append((visible(name), str(own), flops, *_flat(cells)))
    titles = [_title(m) if m == BITS else f"{_title(m)}, % right" for m in measures]
    table = Table(
        columns=(
            "arm",
            "loops",
            "training FLOPs, times the main arm's",
            *_flat([(title, "difference (95 % interval)") for title in titles]),
        ),
        rows=rows,
        caption=of_study(
            "Arms below the main arm that they are compared with, means over seeds",
            study,
            several=several,
        ),
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
