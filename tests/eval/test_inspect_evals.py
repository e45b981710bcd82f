"""Tasks of inspect_evals on a model of ours, by inspect's own command line, without a network."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from loopcoder.eval.environments import INSPECT_EVALS

pytestmark = pytest.mark.slow

PASSAGES = [
    {"question": "is water wet", "answer": True, "passage": "Water is wet."},
    {"question": "is fire cold", "answer": False, "passage": "Fire is hot."},
]
PROBLEMS = [
    {
        "task_id": f"Ours/{name}",
        "entry_point": name,
        "prompt": f'def {name}(x):\n    """Give x back."""\n',
        "canonical_solution": body,
        "test": "def check(candidate):\n    assert candidate(3) == 3\n",
    }
    for name, body in [("right", "    return x\n"), ("wrong", "    return x + 1\n")]
]
# A solver that answers each problem with its own "canonical solution", one of which is wrong.
ANSWERED = """
from inspect_ai import eval
from inspect_ai.model import ModelOutput
from inspect_ai.solver import solver
from inspect_evals.humaneval import humaneval

@solver
def solved():
    async def solve(state, generate):
        state.output = ModelOutput.from_content("none", state.target.text)
        return state
    return solve

(log,) = eval(humaneval(solver=solved(), sandbox="loopcoder"), model="loopcoder/loopcoder-nano",
              model_args={"num_threads": 1}, display="none", log_dir="logs", log_format="json")
print({sample.id: sample.scores["verify"].value for sample in log.samples})
"""


@pytest.fixture
def python() -> Path:
    found = INSPECT_EVALS.interpreter()
    if found is None:
        pytest.skip("no environment: run `loopcoder eval setup inspect-evals`")
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with data sets as `datasets` finds them there before it asks the hub."""
    for name, split, rows in (
        ("google/boolq", "validation", PASSAGES),
        ("openai/openai_humaneval", "test", PROBLEMS),
    ):
        (tmp_path / name).mkdir(parents=True)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / name / f"{split}.jsonl").write_text(text)
    return tmp_path


def run(directory: Path, *command: Any) -> str:
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(directory / "hf")}
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    own = {"XDG_CACHE_HOME": str(directory / "cache"), "INSPECT_DISPLAY": "none"}
    done = subprocess.run(
        [str(each) for each in command],
        cwd=directory,
        env={**os.environ, **offline, **nowhere, **own, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_command_line_and_its_logs(python: Path, directory: Path) -> None:
    inspect = [python, "-m", "inspect_ai"]
    model = ["--model", "loopcoder/loopcoder-nano", "-M", "num_threads=1", "--max-tokens", "8"]
    run(directory, *inspect, "eval", "inspect_evals/boolq", *model, "--log-dir", "logs")
    (listed,) = json.loads(run(directory, *inspect, "log", "list", "--log-dir", "logs", "--json"))
    log = json.loads(run(directory, *inspect, "log", "dump", listed["name"]))
    assert log["status"] == "success"
    assert log["eval"]["model"] == "loopcoder/loopcoder-nano"
    assert log["results"]["total_samples"] == log["results"]["completed_samples"] == 2
    usage = log["stats"]["model_usage"]["loopcoder/loopcoder-nano"]
    assert 2 <= usage["output_tokens"] <= 16  # two answers of at most 8


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="no bubblewrap: apt install bubblewrap")
def test_its_humaneval_runs_answers_in_our_sandbox(python: Path, directory: Path) -> None:
    (directory / "answered.py").write_text(ANSWERED)
    printed = run(directory, python, "answered.py")
    assert printed.splitlines()[-1] == "{'Ours/right': 'C', 'Ours/wrong': 'I'}"
