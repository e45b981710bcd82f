"""The `loopcoder` command: registers the others and turns errors into exit statuses.

Exit status 0 done, 2 the user's input is wrong (one line on standard error), 1 anything else.
"""

import os
import sys
from typing import Annotated

import typer

from loopcoder import __version__
from loopcoder.cli import bench, data
from loopcoder.cli import eval as evaluation
from loopcoder.cli.advise import advise
from loopcoder.cli.chat import chat
from loopcoder.cli.convert import convert
from loopcoder.cli.download import download
from loopcoder.cli.generate import generate
from loopcoder.cli.info import info
from loopcoder.cli.init import init
from loopcoder.cli.perplexity import perplexity
from loopcoder.cli.probe import probe
from loopcoder.cli.quantize import quantize
from loopcoder.cli.report import report
from loopcoder.cli.serve import serve
from loopcoder.cli.study import study
from loopcoder.cli.train import train
from loopcoder.errors import LoopCoderError

app = typer.Typer(
    name="loopcoder",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run, train and dissect looped language models.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run, train and dissect looped language models."""


COMMANDS = (
    generate,
    chat,
    serve,
    info,
    init,
    convert,
    quantize,
    perplexity,
    download,
    train,
    probe,
    advise,
    study,
    report,
)
for _command in COMMANDS:
    app.command()(_command)
app.add_typer(data.app, name="data")
app.add_typer(bench.app, name="bench")
app.add_typer(evaluation.app, name="eval")


def main() -> None:
    """Entry point of the `loopcoder` command."""
    _quiet_libraries()
    try:
        app()
    except LoopCoderError as error:
        if "--debug" in sys.argv:
            raise
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except BrokenPipeError:
        # The reader has seen enough (`loopcoder ... | head`); nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _quiet_libraries() -> None:
    """Keep library notices off the user's screen, unless the user has asked for them."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
