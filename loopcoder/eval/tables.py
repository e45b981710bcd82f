"""Results as tables for a terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.table import Table

from loopcoder.eval.compare import Comparison, holm
from loopcoder.eval.menu import menu, missing
from loopcoder.eval.published import PAPER_NAMES, paper_scores
from loopcoder.eval.records import BITS, TaskResult
from loopcoder.eval.scores import SHARE
from loopcoder.records.rows import AnyRow, ScoreRow


def result_table(results: Sequence[TaskResult]) -> Table:
    """Each estimate with its standard error; shares in percent."""
    table = Table()
    for label in ("task", "metric", "value", "std. error", "problems", "unscored"):
        table.add_column(label, justify="left" if label in ("task", "metric") else "right")
    for result in results:
        for estimate in result.estimates:
            table.add_row(
                result.task,
                estimate.metric,
                _value(estimate.value, estimate.unit),
                _value(estimate.standard_error, estimate.unit),
                str(estimate.problems),
                str(len(result.unscored) or ""),
            )
    return table


def paper_table(rows: Sequence[AnyRow], *, every: bool) -> Table:
    """A run's scores beside the paper's rows, percent; `every` model, or LoopCoder-V2's alone."""
    scores = {
        (row.task, row.metric): row
        for row in rows
        if isinstance(row, ScoreRow) and row.unit == SHARE
    }
    paper = {
        who: values
        for who, values in paper_scores().items()
        if every or who.startswith("LoopCoder-V2,")
    }
    table = Table(caption="paper: LoopCoder-v2, arXiv 2606.18023; its prompts may differ from ours")
    table.add_column("task")
    table.add_column("metric")
    table.add_column("this run", justify="right")
    for who in paper:
        table.add_column(who, justify="right")
    for (task, metric), row in scores.items():
        theirs = PAPER_NAMES.get((task, metric))
        table.add_row(
            task,
            metric,
            _with_error(row),
            *(_points(values.get(theirs)) if theirs else "" for values in paper.values()),
        )
    return table


def comparison_table(found: Sequence[Comparison]) -> Table:
    """Differences with intervals; p adjusted for the number of rows."""
    adjusted = holm([each.p for each in found])
    table = Table(caption="95 % intervals; p after Holm; A > B counts problems")
    for label in ("task", "score", "A", "B", "A - B", "95 %", "p", "A > B", "B > A", "of"):
        justify: Literal["left", "right"] = "left" if label in ("task", "score") else "right"
        table.add_column(label, justify=justify, overflow="fold")
    for each, p in zip(found, adjusted, strict=True):
        # Scores of right and wrong in percent; others (bits a byte) as they are.
        scale, digits = (1, 4) if each.score == BITS else (100, 1)
        low, high = (f"{scale * end:+.{digits}f}" for end in (each.low, each.high))
        table.add_row(
            each.task,
            each.score,
            f"{scale * each.a:.{digits}f}",
            f"{scale * each.b:.{digits}f}",
            f"{scale * each.difference:+.{digits}f}",
            f"{low}, {high}",
            f"{p:.2g}",
            str(each.only_a),
            str(each.only_b),
            str(each.problems),
        )
    return table


def menu_table(data: Path | None) -> Table:
    """Each benchmark and what is missing for it here."""
    table = Table("benchmark", "kind", "here")
    for name, kind in menu().items():
        needs = list(dict.fromkeys(need.what for need in missing(name, data)))
        lacks = f"lacks {needs[0]}" if needs else "ready"
        table.add_row(name, kind, lacks + (f", and {len(needs) - 1} more" if needs[1:] else ""))
    return table


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{100 * value:.1f} %" if unit == SHARE else f"{value:.4f}"


def _with_error(row: ScoreRow) -> str:
    error = "" if row.standard_error is None else f" \u00b1 {100 * row.standard_error:.1f}"
    return f"{100 * row.value:.1f}{error}"


def _points(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
