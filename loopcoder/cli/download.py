"""`loopcoder download`: a checkpoint from the Hugging Face hub."""

from pathlib import Path
from typing import Annotated

import typer

from loopcoder.cli.init import print_result


def download(
    repo: Annotated[str, typer.Argument(help="Repository, owner/name.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory to make; the cache if not given.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(help="For private and gated models; default: HF_TOKEN.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fetch weights, configuration and tokenizer: safetensors and JSON, never code or pickles.

    Example: loopcoder download owner/name --out ./model
    """
    from loopcoder.checkpoint.download import download as download_model

    print_result(download_model(repo, revision=revision, out=out, token=token), as_json)
