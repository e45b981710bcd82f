"""Mind2Web: the next action on a web page as a choice of six, as inspect_evals asks and scores it.

No container is needed: an answer is a letter, an action and a value; nothing is run.
"""

import json
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loopcoder.errors import EvaluationError
from loopcoder.eval.environments import INSPECT_EVALS, Environment
from loopcoder.eval.harness.base import (
    HarnessResult,
    HarnessRun,
    Need,
    Option,
    Score,
    check_sampling,
    chosen,
)
from loopcoder.eval.harness.needs import data_need, environment_need, require
from loopcoder.eval.harness.process import execute, served
from loopcoder.eval.harness.reports import broken, read_report
from loopcoder.eval.harness.tool import unscored
from loopcoder.eval.harness.workspace import plain_environment, workspace

OPTIONS = (
    Option(
        name="split",
        default="test_domain",
        about="test_domain (new domains), test_website (new websites) or test_task (new tasks)",
        choices=("test_domain", "test_website", "test_task"),
    ),
)
STEP_SUCCESS, TASK_SUCCESS = "step success", "task success"
PROGRAM = Path(__file__).with_name("mind2web_task.py")
FETCH = (
    "hf download osunlp/Multimodal-Mind2Web --repo-type dataset --local-dir DIRECTORY && "
    "hf download osunlp/Mind2Web scores_all_data.pkl --repo-type dataset --local-dir DIRECTORY, "
    "then --data DIRECTORY"
)


@dataclass(frozen=True, kw_only=True)
class Mind2Web:
    """The steps of one test split; `limit` counts steps."""

    name: str = "mind2web"
    about: str = "next actions on recorded web pages, each a choice of six; right or not"
    environment: Environment = INSPECT_EVALS
    options: tuple[Option, ...] = OPTIONS

    def needs(self, run: HarnessRun) -> list[Need]:
        """Its environment, the pages, and the ranks of their elements."""
        pages = f"{chosen(self.options, run)['split']}*.*"
        nested = run.data is not None and next(run.data.glob(f"data/{pages}"), None) is not None
        return [
            environment_need(self.environment),
            data_need(
                run.data,
                f"data/{pages}" if nested else pages,
                what=f"the pages of Multimodal-Mind2Web ({pages})",
                remedy=FETCH,
            ),
            data_need(
                run.data,
                "scores_all_data.*",
                what="the ranks of the pages' elements (scores_all_data.pkl or .json)",
                remedy=FETCH,
            ),
        ]

    def run(self, run: HarnessRun) -> HarnessResult:
        """Ask and score every step; a run that was cut off, or had failed steps, goes on.

        Raises `EvaluationError` where something is missing, the program fails or no step could be
        scored.
        """
        check_sampling(run)
        require(self.name, self.needs(run))
        values = chosen(self.options, run)
        place = workspace(self.name, run, values)
        report = place.work / "report.json"
        told = {
            "data": str(run.data),
            "split": values["split"],
            "limit": run.limit,
            "logs": str(place.work / "logs"),
            "report": str(report),
            "model": run.model,
            "n": run.n,
            "temperature": run.temperature,
            "max_tokens": run.max_tokens,
            "loops": run.loops,
            "workers": run.workers,
        }
        execute(
            [str(self.environment.require()), str(PROGRAM), json.dumps(told)],
            place.log,
            what="inspect_evals",
            cwd=place.work,
            environment=plain_environment(
                place.inputs, LOOPCODER_BASE_URL=run.base_url, LOOPCODER_API_KEY=run.api_key
            ),
            alive=partial(served, run.base_url, run.api_key),
        )
        return read(self.name, report, place.log)


def read(name: str, report: Path, log: Path) -> HarnessResult:
    """The report as our scores. A step's share is of its answers that were wholly right."""
    told = read_report(report)
    attempts: dict[str, list[float]] = defaultdict(list)
    task_of: dict[str, str] = {}
    try:
        for step, task, right in told["steps"]:
            attempts[step].append(right)
            task_of[step] = task
        measures = dict(told["metrics"])
        left = len(set(told["unscored"]) - set(attempts))
    except (KeyError, TypeError, ValueError) as error:
        raise broken(report, error) from error
    if not attempts:
        raise EvaluationError(f"{name}: none of {left} steps could be scored; see {log}")
    correct = {step: sum(each) / len(each) for step, each in attempts.items()}
    scores = tuple(
        Score(
            task=name,
            metric=metric,
            value=value,
            samples=len(set(task_of.values())) if metric == TASK_SUCCESS else len(correct),
            standard_error=clustered_error(correct, task_of) if metric == STEP_SUCCESS else None,
        )
        for metric, value in measures.items()
    )
    return HarnessResult(scores=(*scores, *unscored(name, left)), correct=correct)


def clustered_error(shares: Mapping[str, float], cluster_of: Mapping[str, str]) -> float | None:
    """The standard error of the mean of `shares`, those of one cluster not independent.

    The steps of a task are on the same pages. None for a single cluster, which says nothing.
    """
    mean = sum(shares.values()) / len(shares)
    sums: dict[str, float] = defaultdict(float)
    for name, share in shares.items():
        sums[cluster_of[name]] += share - mean
    if len(sums) < 2:
        return None
    # The factor makes it, for clusters of one, the ordinary standard error.
    factor = len(sums) / (len(sums) - 1)
    return math.sqrt(factor * sum(each**2 for each in sums.values())) / len(shares)
