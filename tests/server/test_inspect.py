"""inspect-ai's OpenAI-compatible provider against the server, in a process of its own."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.server.clients import MODEL

pytestmark = pytest.mark.slow

# Nothing but the server can be reached: what wants the network fails at once instead of waiting.
NO_NETWORK = "http://127.0.0.1:9"
TASK = """
import json, sys
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import tool

task = Task(
    dataset=[Sample(input="Write a function.", target="e"), Sample(input="Add.", target="\\u2603")],
    solver=[generate()],
    scorer=includes(),
    config=GenerateConfig(max_tokens=24, temperature=0.8, seed=5, extra_body={"loops": 2}),
)
(log,) = eval(
    task, model=sys.argv[1], model_base_url=sys.argv[2], log_dir=sys.argv[3], display="none"
)
print(json.dumps({
    "status": log.status,
    "error": log.error.message if log.error else None,
    "completed": log.results.completed_samples if log.results else None,
    "texts": [sample.output.completion for sample in log.samples or []],
    "scores": [sample.scores["includes"].value for sample in log.samples or []],
    "tokens": [usage.output_tokens for usage in log.stats.model_usage.values()],
}))
"""


@pytest.mark.skipif(find_spec("inspect_ai") is None, reason="inspect-ai is not installed")
def test_a_task_of_two_samples(server: Any, tmp_path: Path) -> None:
    blocked = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), NO_NETWORK)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            TASK,
            f"openai-api/loopcoder/{MODEL}",
            f"{server.url}/v1",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=tmp_path,
        env={
            **os.environ,
            **blocked,
            "NO_PROXY": "127.0.0.1,localhost",
            "LOOPCODER_API_KEY": "none",
        },
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert (found["status"], found["error"], found["completed"]) == ("success", None, 2)
    assert all(found["texts"])
    assert found["scores"][1] == "I"
    assert 10 < sum(found["tokens"]) <= 48
