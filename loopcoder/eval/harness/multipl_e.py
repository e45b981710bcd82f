"""MultiPL-E through bigcode-evaluation-harness, as PyPI has it (nvidia-bigcode-eval).

HumanEval's problems in other languages, by plain completion: the harness has no chat form of it.
"""

import json
from pathlib import Path

from loopcoder.errors import RequestError
from loopcoder.eval.environments import Environment
from loopcoder.eval.harness.base import (
    HarnessResult,
    HarnessRun,
    Need,
    Option,
    Score,
    check_sampling,
    chosen,
    mean_error,
)
from loopcoder.eval.harness.contained import contained, python_prefixes
from loopcoder.eval.harness.languages import LANGUAGES, language_need, tools
from loopcoder.eval.harness.memory import most_memory
from loopcoder.eval.harness.needs import (
    data_need,
    disk_need,
    environment_need,
    require,
    sandbox_need,
    server_need,
)
from loopcoder.eval.harness.process import execute, served
from loopcoder.eval.harness.reports import broken, read_report
from loopcoder.eval.harness.workspace import Workspace, link, plain_environment, workspace

# All of the harness's tasks are imported with it, so what they import is here too.
ENVIRONMENT = Environment(
    name="multipl-e",
    requirements=(
        *("datasets>=3.2,<4", "evaluate", "httpx>=0.27", "jinja2", "nltk>=3.9.1", "numpy"),
        *("pydantic>=2.8.2", "sqlparse==0.5.0", "tqdm", "transformers<5"),
        *("tree-sitter~=0.21.0", "tree-sitter-java==0.21.0", "tree-sitter-javascript==0.21.4"),
    ),
    alone=("nvidia-bigcode-eval==26.3",),
    module="bigcode_eval.main_server",
)
OPTIONS = (
    Option(
        name="languages",
        default="java,cpp,cs,ts,js,php,sh",
        about=f"by comma, of {' '.join(LANGUAGES)}",
    ),
)
DATASET = "nuprl/MultiPL-E"
# A task of no concern here fetches a tokenizer's data when it is imported.
START = """
import nltk
nltk.download = lambda *names, **settings: True
from bigcode_eval.main_server import main
main()
"""
ANSWER_SECONDS = 60.0  # its own limits are at most 45 s to compile and 15 s to run


class MultiPLE:
    """One run of the harness for each language; the score is each language's, and their mean."""

    name = "multipl-e"
    about = "HumanEval's problems in up to 19 languages, by completion"
    environment: Environment | None = ENVIRONMENT
    options: tuple[Option, ...] = OPTIONS

    def needs(self, run: HarnessRun) -> list[Need]:
        """Its package, a clone of its data set, each language's compiler, a sandbox."""
        fetch = f"hf download {DATASET} --repo-type dataset --local-dir DIR, then --data DIR"
        what = f"a --data directory with the files of {DATASET}"
        found = [
            environment_need(ENVIRONMENT),
            data_need(run.data, "README.md", what=f"{what}: README.md", remedy=fetch),
        ]
        for name in languages(run):
            where = f"humaneval-{name}/*"
            found.append(data_need(run.data, where, what=f"{what}: {where}", remedy=fetch))
            found.append(language_need(name))
        return [*found, sandbox_need(), disk_need(run.out, 1)]

    def run(self, run: HarnessRun) -> HarnessResult:
        """Answers, then tests, then its report. Raises `EvaluationError` where either fails."""
        check_sampling(run)
        require(self.name, [*self.needs(run), server_need(run)])
        assert run.data is not None, "needs() found it"
        results = []
        for name in languages(run):
            space = workspace(f"multipl-e-{name}", run, {"languages": name})
            _generate(run, name, space)
            _evaluate(run, name, space)
            results.append(read_result(space.work, name))
        return _together(results)


def languages(run: HarnessRun) -> list[str]:
    """The languages asked for. Raises `RequestError` for one that the benchmark does not have."""
    names = [name for name in chosen(OPTIONS, run)["languages"].split(",") if name]
    unknown = [name for name in names if name not in LANGUAGES]
    if unknown or not names:
        raise RequestError(
            f"option languages names {', '.join(unknown) or 'none'}; give some of "
            f"{','.join(LANGUAGES)}, by comma"
        )
    return names


def read_result(work: Path, language: str) -> HarnessResult:
    """What the harness wrote of one language. Raises `EvaluationError` where it did not."""
    path = work / "metrics.json"
    metrics = read_report(path)
    try:
        correct = {
            f"{language}/{file.name.removesuffix('.results.json')}": _share(file)
            for file in sorted((work / "results").glob("*.results.json"))
        }
        name = f"multipl-e-{language}"
        error = mean_error(list(correct.values()))
        scores = tuple(
            Score(
                task=name,
                metric=metric,
                value=float(value),
                samples=len(correct),
                standard_error=error if metric == "pass@1" else None,
            )
            for metric, value in metrics[f"multiple-{language}"].items()
        )
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise broken(path, error) from error
    return HarnessResult(scores=scores, correct=correct)


def _share(file: Path) -> float:
    answers = read_report(file)["results"]
    right = [bool(a["status"] == "OK" and a["exit_code"] == 0) for a in answers]
    return sum(right) / len(right)


def _together(results: list[HarnessResult]) -> HarnessResult:
    """Every language's scores, and the mean of the languages' pass@1 if there are several."""
    scores = [score for result in results for score in result.scores]
    firsts = [score.value for score in scores if score.metric == "pass@1"]
    correct = {task: share for result in results for task, share in result.correct.items()}
    if len(results) > 1:
        mean = sum(firsts) / len(firsts)
        whole = Score(task="multipl-e", metric="pass@1", value=mean, samples=len(correct))
        scores.insert(0, whole)
    return HarnessResult(scores=tuple(scores), correct=correct)


def _arguments(run: HarnessRun, language: str, out: Path) -> list[str]:
    """What both runs are told alike; the second finds the answers and asks for none."""
    model = {"model_name": run.model, "timeout": 600, "connection_retries": 3}
    extra = {} if run.loops is None else {"loops": run.loops}
    words = ["-c", START, "--model_type", "nim-base", "--out_dir", str(out)]
    words += ["--url", f"{run.base_url.rstrip('/')}/completions", "--model_kwargs"]
    words += [json.dumps(model), "--gen_kwargs", json.dumps(extra)]
    words += ["--task", f"multiple-{language}", "--n_samples", str(run.n), "--top_p", "0.95"]
    words += ["--temperature", str(run.temperature), "--max_new_tokens", str(run.max_tokens)]
    words += ["--async_limit", str(run.workers)]
    return words if run.limit is None else [*words, "--limit", str(run.limit)]


def _generate(run: HarnessRun, language: str, space: Workspace) -> None:
    assert run.data is not None, "needs() found it"
    link(space.inputs / DATASET, run.data)
    python = str(ENVIRONMENT.require())
    execute(
        [python, *_arguments(run, language, space.inputs), "--generation_only"],
        space.log,
        what=f"bigcode-eval, {language}",
        cwd=space.inputs,
        environment=plain_environment(space.inputs, NVCF_TOKEN=run.api_key),
        alive=lambda: served(run.base_url, run.api_key),
    )


def _evaluate(run: HarnessRun, language: str, space: Workspace) -> None:
    """The harness again, locked up, with all answers at hand."""
    assert run.data is not None, "needs() found it"
    answers = read_report(space.inputs / "predictions.json")
    (space.work / "predictions.json").write_text(json.dumps(answers), encoding="utf-8")
    (space.work / "metrics.json").unlink(missing_ok=True)
    results = space.work / "results"
    results.mkdir(exist_ok=True)
    for old in results.iterdir():
        if not old.is_dir():
            old.unlink()
    link(space.work / DATASET, run.data)
    python = ENVIRONMENT.require()
    shown, path = tools(language)
    where = ":".join([*map(str, path), str(python.parent), "/usr/local/bin", "/usr/bin", "/bin"])
    private = plain_environment(Path("/tmp"), PATH=where, TMPDIR=str(results))
    locked = contained(
        [str(python), *_arguments(run, language, space.work), "--allow_code_execution"],
        readable=[*python_prefixes(python), run.data.absolute(), *shown],
        writable=space.work,
        environment=private,
    )
    execute(
        locked,
        space.log,
        what=f"bigcode-eval --allow_code_execution, {language}",
        cwd=space.work,
        environment=plain_environment(space.inputs),
        seconds=600 + sum(map(len, answers)) * ANSWER_SECONDS,
        memory=most_memory(),
    )
