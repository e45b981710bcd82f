"""`loopcoder probe`: what each loop does, measured on text."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loopcoder.errors import RequestError

if TYPE_CHECKING:
    from loopcoder.probes.conventions import Conventions
    from loopcoder.probes.run import Probed


def probe(
    model: Annotated[str, typer.Argument(help="Bundled name, directory or hub id.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Text files, folders or JSONL, or a directory of `data build` (its held-out "
            "text); may be repeated. Python's standard library if not given."
        ),
    ] = None,
    samples: Annotated[int, typer.Option(help="How many, each of a document of its own.")] = 64,
    length: Annotated[int, typer.Option(help="Tokens of a sample.")] = 512,
    out: Annotated[Path, typer.Option(help="Directory for probe.jsonl.")] = Path("probe"),
    loops: Annotated[int | None, typer.Option(help="Loop count; the model's own if unset.")] = None,
    per_document: Annotated[int, typer.Option(help="Samples of one document, at most.")] = 1,
    seed: Annotated[int, typer.Option(help="Decides which samples are drawn.")] = 0,
    attention: Annotated[
        bool, typer.Option("--attention/--no-attention", help="Measure attention maps; slow.")
    ] = True,
    fixed_point: Annotated[
        bool, typer.Option("--fixed-point/--no-fixed-point", help="Run one loop more for the gap.")
    ] = True,
    convention: Annotated[
        list[str] | None,
        typer.Option(help="What the papers leave open, such as rank_state=u; may be repeated."),
    ] = None,
    passage: Annotated[
        Path | None, typer.Option(help="Text for the token view; the first sample if not given.")
    ] = None,
    passage_tokens: Annotated[int, typer.Option(help="Tokens of the passage, at most.")] = 192,
    batch: Annotated[int, typer.Option(help="Samples in one forward pass.")] = 1,
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; torch's choice if unset.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace DIR/probe.jsonl.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Step size, rank, attention, gates and predictions of every loop, with intervals.

    Example: loopcoder probe loopcoder-nano --samples 32 --out probes/nano
    """
    for name, value in (
        ("--batch", batch),
        ("--threads", threads),
    ):
        if value is not None and value < 1:
            raise RequestError(f"{name} is {value}; it must be at least 1")
    if passage_tokens < 2:
        raise RequestError(f"--passage-tokens is {passage_tokens}; it must be at least 2")
    conventions = _conventions(convention or ())
    import torch

    from loopcoder.probes.observe import ProbeOptions
    from loopcoder.probes.run import ProbeSettings, run_probe

    if threads is not None:
        torch.set_num_threads(threads)
    done = run_probe(
        ProbeSettings(
            model=model,
            out=out,
            data=tuple(data or ()),
            samples=samples,
            length=length,
            per_document=per_document,
            seed=seed,
            loops=loops,
            options=ProbeOptions(
                conventions=conventions,
                attention=attention,
                fixed_point=fixed_point,
            ),
            batch=batch,
            passage=passage,
            passage_tokens=passage_tokens,
            dtype=dtype,
            device=device,
            force=force,
            command=" ".join(["loopcoder", *sys.argv[1:]]),
        ),
        _report,
    )
    if as_json:
        sys.stdout.write(json.dumps(_summary(done), indent=2) + "\n")
    else:
        _print(done)


def _conventions(assignments: Sequence[str]) -> "Conventions":
    from loopcoder.probes.conventions import Conventions

    known = Conventions.__dataclass_fields__
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, sign, value = assignment.partition("=")
        if not sign or name not in known:
            raise RequestError(
                f"--convention is {assignment!r}; give name=value, with a name of "
                f"{', '.join(known)}"
            )
        values[name] = int(value) if value.isdecimal() else value
    return Conventions(**values)


def _report(done: int, total: int) -> None:
    """A counter on a terminal, a line at every tenth elsewhere."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done} of {total} samples" + ("\n" if done == total else ""))
        sys.stderr.flush()
    elif done == total or done * 10 // total > (done - 1) * 10 // total:
        print(f"{done} of {total} samples", file=sys.stderr, flush=True)


def _summary(done: "Probed") -> dict[str, Any]:
    rows = [row.model_dump(exclude={"source"}, exclude_none=True) for row in done.rows]
    source = done.rows[0].source.model_dump(exclude_none=True)
    return {"file": str(done.path), **source, "interrupted": done.interrupted, "rows": rows}


def _print(done: "Probed") -> None:
    from rich.console import Console
    from rich.table import Table

    from loopcoder.records.measures import MEASURES
    from loopcoder.records.rows import MeasureRow, NoteRow

    measured = [row for row in done.rows if isinstance(row, MeasureRow)]
    loops = measured[0].loops
    table = Table(
        title=f"{measured[0].samples} samples of {measured[0].documents} documents; "
        "± is half the 95 % interval, .. spans layers and heads",
        title_justify="left",
    )
    table.add_column("", no_wrap=True)
    for loop in range(1, loops + 1):
        table.add_column(f"loop {loop}", justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    for name, measure in MEASURES.items():
        cells = [
            _cell([row for row in measured if (row.measure, row.loop) == (name, loop)])
            for loop in range(1, loops + 1)
        ]
        if any(cells):
            table.add_row(measure.title, *cells, measure.unit)
    width = None if sys.stdout.isatty() else 140  # a file has room for four loops
    console = Console(file=sys.stdout, highlight=False, width=width)
    console.print(table)
    reasons: dict[str, list[str]] = {}
    for note in (row for row in done.rows if isinstance(row, NoteRow)):
        titles = reasons.setdefault(note.text, [])
        titles += [MEASURES[note.measure].title] if note.measure else []
    for text, titles in reasons.items():
        console.print(f"not measured: {', '.join(titles)}: {text}" if titles else f"note: {text}")
    console.print(f"written: {done.path}; see it with: loopcoder report {done.path.parent}")


def _cell(rows: "Sequence[Any]") -> str:
    """A loop's mean with half its interval; of layers and heads, the range of their means."""
    if not rows:
        return ""
    if rows[0].layer is None:
        (row,) = rows
        half = "" if row.low is None else f" ± {row.high - row.mean:.2g}"
        return f"{row.mean:.4g}{half}"
    values = [v for row in rows for v in (row.mean if isinstance(row.mean, list) else [row.mean])]
    return f"{_short(min(values))} .. {_short(max(values))}"


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
