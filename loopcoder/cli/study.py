"""`loopcoder study`: the whole sweep, from one recipe."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Annotated

import typer

from loopcoder.errors import RequestError

if TYPE_CHECKING:
    from loopcoder.study.run import StudyResult


def study(
    recipe: Annotated[
        str, typer.Argument(help="Study recipe (TOML), or the name of a bundled one.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Directory to write or go on in; runs/NAME if not given.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Models at a time; as many as there are cores if unset.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Make the data, print the budget, and stop.")
    ] = False,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a field: study.seeds=[0,1]; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train, measure and compare models at several loop counts; run again to go on.

    Example: loopcoder study study_smoke --out runs/smoke-study --jobs 2
    """
    if jobs is not None and jobs < 1:
        raise RequestError(f"--jobs is {jobs}; it must be at least 1")
    for package, extra in (("accelerate", "train"), ("matplotlib", "report")):
        if find_spec(package) is None:  # known now, and not when the training is over
            raise RequestError(
                f"{package} is not installed; a study needs: pip install 'loopcoder[{extra}]'"
            )
    from loopcoder.study.recipe import load_study

    settings, path = load_study(recipe, assignments or ())
    from loopcoder.study.run import as_json_text, run_study

    result = run_study(
        settings,
        path.parent,
        out if out is not None else Path("runs") / settings.name,
        processes=jobs or _as_many(settings.train.get("run", {}).get("threads")),
        say=lambda line: print(line, file=sys.stderr, flush=True),
        dry_run=dry_run,
    )
    if as_json:
        sys.stdout.write(as_json_text(result) + "\n")
    elif result.finished:
        _print(result)
    if not (result.finished or dry_run):
        raise typer.Exit(130)  # what a shell reports for a program that Ctrl-C ended


def _as_many(threads: int | None) -> int:
    """How many models the cores bear, each with `threads`; one where each takes them all."""
    import torch

    if threads is None or torch.cuda.is_available():
        return 1
    return max(len(os.sched_getaffinity(0)) // threads, 1)


def _print(result: "StudyResult") -> None:
    """A table of what came out by arm and loop count, the advice, and where the rest is."""
    from rich.console import Console
    from rich.table import Table

    from loopcoder.cli.advise import headline
    from loopcoder.study.run import PAGE, RECORDS

    table = Table(title="bits per byte held out; less is better", title_justify="left")
    for column in ("arm", "R", "seeds", "mean", "each", "tuned"):
        table.add_column(column)
    groups: dict[str, list[tuple[str, float]]] = {}
    for name, summary in result.summaries.items():
        place, _, seed = name.rpartition("-s")
        groups.setdefault(place, []).append((seed, float(summary["bits_per_byte"])))
    for place, found in groups.items():
        arm, _, loops = place.rpartition("-R")
        values = [value for _, value in sorted(found)]
        tuned = result.chosen.get(place, {})
        table.add_row(
            arm,
            loops,
            str(len(values)),
            f"{mean(values):.4f}",
            " ".join(f"{value:.4f}" for value in values),
            ", ".join(f"{key.split('.')[-1]} {value}" for key, value in tuned.items()),
        )
    console = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(table)
    if result.advice is None:
        console.print(f"no advice: {result.why_not}")
    else:
        console.print(headline(result.advice))
    console.print(f"records: {result.out / RECORDS}; page: {result.out / PAGE}")
