"""`loopcoder report`: one HTML page from records."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from loopcoder.errors import RequestError


def report(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Searched for records of `probe` and objects of `bench --json`."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The page; DIR/report.html if not given.")
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Show the papers' values beside the measured ones.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """One HTML page of everything in the records: the advice, its evidence, token by token.

    The page needs no network and no other file. Example: loopcoder report probes/nano
    """
    if not directory.is_dir():
        raise RequestError(
            f"DIR is {directory}, which is no directory; give one that `loopcoder probe --out` made"
        )
    if find_spec("matplotlib") is None:
        raise RequestError(
            "matplotlib is not installed; the page needs: pip install 'loopcoder[report]'"
        )
    from loopcoder.loopcount import read_evidence
    from loopcoder.report.page import write_report

    evidence = read_evidence([directory], with_published=published, say=_say)
    page = out or directory / "report.html"
    size = write_report(directory, page, evidence)
    if as_json:
        files = [run.name for run in evidence.runs] + [bench.name for bench in evidence.benches]
        sys.stdout.write(json.dumps({"page": str(page), "bytes": size, "from": files}) + "\n")
    else:
        print(f"written: {page} ({size / 1e3:.0f} kB); open it in a browser")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
