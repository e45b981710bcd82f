"""Tasks that need depth: what was right, by hops and loop count, with the steps or without."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from loopcoder.loopcount import Evidence, Study
from loopcoder.loopcount.advice import Advice
from loopcoder.loopcount.intervals import share_interval
from loopcoder.loopcount.scores import DEPTHS
from loopcoder.records.rows import DepthRow
from loopcoder.report import plots
from loopcoder.report.numbers import capital, in_loops, listed, number, visible
from loopcoder.report.parts import Figure, Panel, Section, Table
from loopcoder.report.runs import Point
from loopcoder.report.sections.common import NOTHING, of_study
from loopcoder.report.sections.levels import levels_figure

_ASKED = {"direct": "asked directly", "steps": "asked with the steps"}


@dataclass(frozen=True, kw_only=True)
class Share:
    """What models of one loop count got right of questions of one task and number of hops."""

    right: float  # mean over seeds, of 1
    questions: int
    seeds: int

    def point(self, hops: int) -> Point:
        """In percent, with its 95 % interval over questions."""
        low, high = share_interval(self.right, self.questions)
        return Point(hops, 100 * self.right, 100 * low, 100 * high, self.questions, None, "")


# By task and hops, then loop count.
Shares = Mapping[tuple[str, int], Mapping[int, Share]]


def depth(found: Sequence[Study], evidence: Evidence, advice: Advice | None) -> Section | None:
    """Accuracy of the main arm's models; None where no study asked such questions."""
    figures = []
    for i, study in enumerate(found):
        rows = [row for group in study.main_groups for model in group for row in model.depth]
        own = [row for row in rows if _at_its_own(row)]
        for mode in dict.fromkeys(row.mode for row in own):
            asked = [row for row in own if row.mode == mode]
            title = of_study(capital(_ASKED[mode]), study, several=len(found) > 1)
            figures.append(_figure(f"depth-{i}-{mode}", title, mode, asked))
    if not figures:
        return None
    tables = [table for table in advice.tables if table.of == DEPTHS] if advice else []
    levels = [levels_figure(f"levels-{i}", t, evidence.runs) for i, t in enumerate(tables)]
    return Section(
        name="depth",
        title="Tasks that need depth",
        lead="Generated questions whose answer takes a number of hops. Asked directly, all hops "
        "must happen inside the network; asked with the steps, they can be written down one by "
        "one. An answer is right if it is exact.",
        figures=[*figures, *levels],
    )


def _at_its_own(row: DepthRow) -> bool:
    return row.source.model is not None and row.loops == row.source.model.trained_loops


def _figure(name: str, title: str, mode: str, rows: Sequence[DepthRow]) -> Figure:
    shares = _shares(rows)
    trained = max(row.trained_hops for row in rows)
    loops = sorted({row.loops for row in rows})
    tasks = dict.fromkeys(row.task for row in rows)
    beyond = any(hops > trained for _, hops in shares)
    return Figure(
        name=name,
        title=title,
        panels=[_panel(f"{name}-{i}", task, shares, trained) for i, task in enumerate(tasks)],
        sentence=_said(mode, shares, trained),
        key="Bars: 95 % intervals over questions."
        + (f" Dashed: training had up to {trained} hops." if beyond else ""),
        legend=tuple((r - 1, in_loops(r)) for r in loops),
        tables=[_table(shares, loops, trained)],
    )


def _shares(rows: Sequence[DepthRow]) -> Shares:
    answers: dict[tuple[str, int], dict[int, list[str]]] = {}
    for row in rows:
        for hops, right in zip(row.hops, row.right, strict=True):
            if right:
                answers.setdefault((row.task, hops), {}).setdefault(row.loops, []).append(right)
    return {
        place: {
            loops: Share(
                right=fmean(text.count("1") / len(text) for text in texts),
                questions=min(map(len, texts)),
                seeds=len(texts),
            )
            for loops, texts in sorted(by_loops.items())
        }
        for place, by_loops in sorted(answers.items())
    }


def _panel(name: str, task: str, shares: Shares, trained: int) -> Panel:
    points: dict[int, list[Point]] = {}
    for (own, hops), by_loops in shares.items():
        if own == task:
            for loops, share in by_loops.items():
                points.setdefault(loops, []).append(share.point(hops))
    lines = [
        plots.Line(label=f"R = {loops}", style=loops - 1, points=found)
        for loops, found in sorted(points.items())
    ]
    return plots.by_hops(name, visible(task), "right, %", lines, trained=trained, top=100.0)


def _said(mode: str, shares: Shares, trained: int) -> str:
    within = _means({place: s for place, s in shares.items() if place[1] <= trained})
    beyond = _means({place: s for place, s in shares.items() if place[1] > trained})
    told = []
    if within:
        told.append(f"of as many hops as training had, {_best(within)}")
    if beyond:
        told.append(f"of more hops, {_best(beyond)}")
    return f"{capital(_ASKED[mode])}: {'; '.join(told)}."


def _means(shares: Shares) -> dict[int, float]:
    """Over tasks and hops, by loop count: of what every count was asked."""
    loops = {r for by_loops in shares.values() for r in by_loops}
    common = [by_loops for by_loops in shares.values() if loops <= by_loops.keys()]
    return {r: fmean(s[r].right for s in common) for r in sorted(loops)} if common else {}


def _best(means: Mapping[int, float]) -> str:
    best = max(means, key=lambda loops: means[loops])
    rest = [f"{in_loops(r)} {_percent(v)}" for r, v in means.items() if r != best]
    others = f" ({listed(rest)})" if rest else ""
    return f"{in_loops(best)} answered most right, {_percent(means[best])}{others}"


def _percent(share: float) -> str:
    return f"{number(100 * share)} %"


def _table(shares: Shares, loops: Sequence[int], trained: int) -> Table:
    seeds = max(share.seeds for by_loops in shares.values() for share in by_loops.values())
    return Table(
        columns=("task", "hops", "in training", "questions", *(in_loops(r) for r in loops)),
        rows=[
            (
                visible(task),
                str(hops),
                "yes" if hops <= trained else "no",
                str(max(share.questions for share in by_loops.values())),
                *(_cell(by_loops.get(r), hops) for r in loops),
            )
            for (task, hops), by_loops in shares.items()
        ],
        caption="Right, % (95 % interval over questions); each loop count "
        + (f"is the mean of up to {seeds} seeds" if seeds > 1 else "has one seed"),
        words=frozenset({0, 2}),
    )


def _cell(share: Share | None, hops: int) -> str:
    if share is None:
        return NOTHING
    point = share.point(hops)
    low, high = point.low or 0.0, point.high or 0.0
    return f"{number(point.mean)} ({number(low)} to {number(high)})"
