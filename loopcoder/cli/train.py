"""`loopcoder train`: pre-training and fine-tuning from a recipe."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[
        str, typer.Argument(help="Recipe file (TOML), or the name of a bundled recipe.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Directory to write; runs/NAME if not given.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Token shards; the recipe's data.shards if not given.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")
    ] = False,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a field: section.key=value; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Train a model as a recipe says, or go on with a run that was stopped.

    Example: loopcoder train nano --data data/nano --out runs/nano --set optim.peak_lr=1e-3
    """
    from loopcoder.train.recipe import load_recipe

    settings = load_recipe(recipe, assignments or ())
    from loopcoder.train.run import train as run_training

    target = out if out is not None else Path("runs") / settings.name
    result = run_training(settings, out=target, data=data, resume=resume)
    if result.summary is None:
        raise typer.Exit(130)  # what a shell reports for a program that Ctrl-C ended
    if as_json:
        sys.stdout.write(json.dumps(result.summary, indent=2) + "\n")
