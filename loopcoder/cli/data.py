"""`loopcoder data`: corpora, tokenizers and token shards."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Corpora, tokenizers and token shards.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """Corpora, tokenizers and token shards."""


@app.command()
def build(
    recipe: Annotated[
        str, typer.Argument(help="Recipe file (TOML), or the name of a bundled recipe.")
    ],
    *,
    out: Annotated[
        Path | None, typer.Option(help="Directory to write. Default: the recipe's NAME-data here.")
    ] = None,
    from_corpus: Annotated[
        Path | None, typer.Option(help="The corpus folder of an earlier build: no download.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Tokenizer folder of an earlier build, or a checkpoint.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier build.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Build corpus, tokenizer and token shards with a manifest of hashes.

    Example: loopcoder data build nano_data --out data/nano
    """
    from loopcoder.train.data.build import BuildOptions
    from loopcoder.train.data.build import build as build_data
    from loopcoder.train.data.manifest import summary
    from loopcoder.train.data.recipe import load_recipe
    from loopcoder.train.settings import find_recipe

    path = find_recipe(recipe)
    out = out or Path(f"{load_recipe(path).name}-data")
    options = BuildOptions(out=out, from_corpus=from_corpus, tokenizer=tokenizer, force=force)
    result = summary(build_data(path, options))
    if as_json:
        json.dump(result, sys.stdout, indent=2)
        print()
    else:
        _print(result, out)


def _print(result: dict[str, Any], out: Path) -> None:
    for split, record in result["splits"].items():
        print(
            f"{split:8} {record['documents']:7} documents  {record['bytes'] / 1e6:8.1f} MB  "
            f"{record['tokens'] / 1e6:8.2f} M tokens  text:code {record['text_to_code']}"
        )
    print(f"held out: {', '.join(result['heldout_projects'])}")
    for name, reason in result["refused"].items():
        print(f"refused:  {name} ({reason})")
    print(f"written:  {out}")
