"""What the benchmarks of agents share: the served model through litellm, and their result."""

import json
import os
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from loopcoder.errors import EvaluationError
from loopcoder.eval.harness.base import HarnessResult, HarnessRun
from loopcoder.eval.harness.tool import mean_score, unscored
from loopcoder.eval.harness.workspace import plain_environment


def agent_environment(home: Path, run: HarnessRun, **more: str) -> dict[str, str]:
    """For programs that reach the served model through litellm, and containers through Docker.

    They get all of ours (the address of a Docker daemon, the keys of a cloud's containers) but the
    home directory. Told not to, litellm fetches no list of prices, and harbor reports nothing.
    """
    docker = os.environ.get("DOCKER_CONFIG", str(Path.home() / ".docker"))
    own = plain_environment(
        home,
        DOCKER_CONFIG=docker,
        OPENAI_API_KEY=run.api_key,
        OPENAI_API_BASE=run.base_url,
        OPENAI_BASE_URL=run.base_url,
        LITELLM_LOCAL_MODEL_COST_MAP="True",
        HARBOR_TELEMETRY="off",
        **more,
    )
    return {**os.environ, **own}


def context_length(run: HarnessRun) -> int | None:
    """Tokens of prompt and answer that the server says it takes; None where it does not say."""
    request = urllib.request.Request(
        f"{run.base_url}/models", headers={"Authorization": f"Bearer {run.api_key}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            models = json.load(answer)["data"]
        return next((int(m["max_model_len"]) for m in models if m["id"] == run.model), None)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def result(
    name: str, metric: str, attempts: Mapping[str, Sequence[float]], tasks: Sequence[str], log: Path
) -> HarnessResult:
    """The mean over tasks of the share of right attempts, and how many tasks have none.

    `attempts` has the scored ones. A task without one is left out of the mean and counted as
    unscored. Raises `EvaluationError` where there is no other.
    """
    correct = {
        task: sum(attempts[task]) / len(attempts[task]) for task in tasks if attempts.get(task)
    }
    if not correct:
        raise EvaluationError(f"{name}: none of {len(tasks)} tasks could be scored; see {log}")
    mean = mean_score(name, metric, correct)
    return HarnessResult(scores=(mean, *unscored(name, len(tasks) - len(correct))), correct=correct)
