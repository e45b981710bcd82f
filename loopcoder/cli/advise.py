"""`loopcoder advise`: how many loops, with the evidence."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loopcoder.errors import RequestError

if TYPE_CHECKING:
    from rich.console import Console

    from loopcoder.loopcount import Advice, LoopRow


def advise(
    run: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Record files of `probe`, objects of `bench --json`, or folders of both.",
            show_default=False,
        ),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Use the papers' values, which ship with this.")
    ] = False,
    max_latency: Annotated[
        float | None, typer.Option(help="Decode latency allowed, as a ratio to one loop.")
    ] = None,
    max_flops: Annotated[
        float | None, typer.Option(help="FLOPs of a token allowed, as a ratio to one loop.")
    ] = None,
    min_gain: Annotated[
        float, typer.Option(help="Bits per byte; a smaller gain is not worth a loop.")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """How many loops to train or run, how sure, why, and what would change it.

    Needs no model and no GPU: it reads records. Example: loopcoder advise --published
    """
    if not run and not published:
        raise RequestError(
            "no RUN is given; name what `loopcoder probe --out` wrote, or use --published"
        )
    from loopcoder.loopcount import Limits
    from loopcoder.loopcount import advise as weigh
    from loopcoder.loopcount.runs import read_evidence

    limits = Limits(max_latency=max_latency, max_flops=max_flops, min_gain=min_gain)
    evidence = read_evidence(run or [], with_published=published, say=_say)
    advice = weigh(evidence, limits)
    if as_json:
        sys.stdout.write(json.dumps(advice.to_dict(), indent=2, ensure_ascii=False) + "\n")
    else:
        _print(advice)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _print(advice: "Advice") -> None:
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False)
    console.print(f"\n[bold]{headline(advice)}[/bold]")
    console.print(_text(advice.basis), style="dim")
    listed: tuple[tuple[str, str, Sequence[str]], ...] = (
        ("Why", "+", [f"{f.sentence} [{f.basis}]" for f in advice.reasons]),
        ("Against", "-", [f"{f.sentence} [{f.basis}]" for f in advice.against]),
    )
    if advice.recommended_loops is None:
        listed = (("What is known", "·", [f.sentence for f in advice.findings]),)
    for title, mark, lines in listed:
        _list(console, title, mark, lines)
    _tables(console, advice)
    _list(console, "What would change it", "?", advice.would_change)
    _list(console, "Not in these numbers", "!", advice.caveats)


def headline(advice: "Advice") -> str:
    """The recommendation in one line."""
    from loopcoder.loopcount.decide import count

    loops = advice.recommended_loops
    if loops is None:
        return f"How many loops to {advice.question}: cannot tell."
    verb = "Run this checkpoint at" if advice.question == "run this checkpoint" else "Train and run"
    return f"{verb} {count(loops)}: {advice.confidence}."


def _list(console: "Console", title: str, mark: str, lines: Sequence[str]) -> None:
    from rich.table import Table

    if not lines:
        return
    console.print(f"\n[bold]{title}[/bold]")
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for line in lines:
        table.add_row(mark, _text(line))
    console.print(table)


def _text(line: str) -> Any:
    """As it stands: file names may hold what rich takes for markup."""
    from rich.text import Text

    return Text(line)


def _tables(console: "Console", advice: "Advice") -> None:
    if advice.per_loop:
        _table(console, "Gain of each loop", _GAINS, advice)
        _table(console, "Cost (times one loop's, and the toll of the offset)", _COSTS, advice)
        _print_sources(console, advice)


def _table(
    console: "Console", title: str, columns: Sequence[tuple[str, "_Cell"]], advice: "Advice"
) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    shown = [column for column in columns if any(column[1](r, advice) for r in advice.per_loop)]
    if not shown:
        return
    unit = advice.tables[0].unit if advice.tables else ""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("loop", justify="right", no_wrap=True)
    for name, _ in shown:
        table.add_column(name.replace("level", unit), justify="right", no_wrap=True)
    for row in advice.per_loop:
        table.add_row(str(row.loop), *(cell(row, advice) for _, cell in shown))
    console.print(f"\n[bold]{title}[/bold]")
    console.print(table)


def _print_sources(console: "Console", advice: "Advice") -> None:
    """Which costs the table shows: measured, by formula, or published."""
    from loopcoder.loopcount.costs import DECODE, FLOPS, KV, cost_ratio

    lines = {
        f"{what}: {cost.basis}, {cost.conditions} ({cost.source})": None
        for what in (DECODE, KV, FLOPS)
        for row in advice.per_loop
        if row.loop > 1 and (cost := cost_ratio(advice.costs, what, row.loop))
    }
    for line in lines:
        console.print(_text(line), style="dim")


_Cell = Callable[["LoopRow", "Advice"], str]


def _number(field: str, form: str) -> _Cell:
    def cell(row: "LoopRow", advice: "Advice") -> str:
        value = getattr(row, field)
        return "" if value is None else format(value, form)

    return cell


def _level(row: "LoopRow", advice: "Advice") -> str:
    """Loss or score with its 95 % interval."""
    table = advice.tables[0] if advice.tables and advice.tables[0].decides else None
    level = next((each for each in table.levels if each.loops == row.loop), None) if table else None
    if level is None:
        return ""
    form = ".3f" if level.value < 10 else ".1f"
    span = "" if level.low is None else f" ({level.low:{form}}..{level.high:{form}})"
    return f"{level.value:{form}}{span}"


def _gain(row: "LoopRow", advice: "Advice") -> str:
    return "" if row.gain is None else f"{row.gain:+.3g}"


_GAINS: tuple[tuple[str, _Cell], ...] = (
    ("level (95 %)", _level),
    ("gain", _gain),
    ("Δp, nats", _number("output_shift", ".3g")),
    ("eff. rank", _number("effective_rank", ".4g")),
    ("truth rank", _number("truth_rank", ".4g")),
    ("angle", _number("update_angle", ".2f")),
)
_COSTS: tuple[tuple[str, _Cell], ...] = (
    ("latency", _number("latency", ".3f")),
    ("KV", _number("kv", ".3f")),
    ("FLOPs", _number("decode_flops", ".2f")),
    ("Ω norm", _number("offset_cost", ".3g")),
    ("Ω / Δp", _number("per_shift", ".3g")),
)
