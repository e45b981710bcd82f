"""Every command of README and docs is run, in the order a reader would, in an empty directory."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# What a command of the docs stands for here: as it is, or the same command on something smaller.
SMALLER = {
    "bench serve": "needs a load generator; tests/bench/test_serving.py runs it where there is one",
    "serve": "runs until it is stopped; the pages' clients are run in test_serving_guide.py",
    "train nano --data data/nano": "data/smoke with the smoke recipe's sizes",
    "data build nano_data": "fetches 215 source packages; the smoke recipe takes the same path",
    "data build smoke_data --tokenizer ./smollm2": "run on a model's own in tests/train",
    "download OWNER/NAME": "run against a local server in tests/checkpoint/test_download.py",
    "convert SmolLM2-135M-Instruct.gguf": "run on the real file in test_real_weights.py",
    "convert ./llama": "run on a model made here in tests/checkpoint/test_convert.py",
    "eval download": "run against a local server in tests/eval/problems/test_download.py",
    "eval humaneval_plus": "needs benchmark files; run in tests/eval/test_commands.py",
    "eval cruxeval_output": "needs benchmark files; run in tests/eval/test_faults.py",
    "eval results": "run in tests/eval/test_commands.py",
    "eval view": "runs until it is stopped",
    "eval compare": "run in tests/eval/test_commands.py",
    "eval export": "run in tests/eval/test_commands.py",
    "eval bfcl": "needs an environment of its own; run in tests/eval/bfcl",
    "study": "hours; tests/study/test_command.py runs study_smoke, test_recipe.py reads the others",
    "info ./model": "run on a checkpoint made here in tests/checkpoint/test_commands.py",
}

# What follows `eval` is one of these, or the first of the tasks to run.
EVAL_COMMANDS = {"download", "compare", "results", "export", "list", "setup", "view"}


def _commands(page: Path) -> list[str]:
    """Lines of a page's code blocks that call `loopcoder`, without their comments."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = "\n".join(fenced).splitlines() + re.findall(r"^    (.*)$", text, flags=re.MULTILINE)
    calls = (re.fullmatch(r"(?:\.venv/bin/)?loopcoder (.*)", line.strip()) for line in lines)
    return [re.sub(r"\s+#.*", "", call.group(1)) for call in calls if call]


ALL = [(page.name, command) for page in PAGES for command in _commands(page)]
WHOLE = list(dict.fromkeys(c for _, c in ALL if not any(c.startswith(s) for s in SMALLER)))


def _run(command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loopcoder", *shlex.split(command)],
        cwd=directory,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_pages_have_commands() -> None:
    assert len(WHOLE) >= 8
    assert {page for page, _ in ALL} >= {"README.md", "training.md", "checkpoints.md", "data.md"}


@pytest.mark.slow
def test_commands_run_in_order(tmp_path: Path) -> None:
    """A reader's session: what one command writes, a later one reads."""
    for command in WHOLE:
        words = shlex.split(command)
        if "--out" in words:
            # Two pages may write the same example directory.
            out = tmp_path / words[words.index("--out") + 1]
            shutil.rmtree(out, ignore_errors=True)
        done = _run(command, tmp_path)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert done.stdout or command.startswith(("train", "init")), command
        if "--json" in command:
            json.loads(done.stdout)


@pytest.mark.parametrize("command", sorted({c for _, c in ALL} - set(WHOLE)))
def test_options_of_larger_commands_exist(command: str) -> None:
    """The rest is run elsewhere (`SMALLER` says where); its options are checked here."""
    words = shlex.split(command)
    name = words[:2] if words[0] in ("data", "bench", "eval") else words[:1]
    if words[0] == "eval" and words[1] not in EVAL_COMMANDS:
        name = ["eval", "run"]
    shown = _run(" ".join([*name, "--help"]), ROOT)
    assert shown.returncode == 0
    for word in words:
        if word.startswith("--"):
            assert word in shown.stdout, f"{command}: no option {word}"


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/probes.md"])
def test_python_examples_run(page: str) -> None:
    """A page's Python, with the bundled checkpoint in the place of the reader's."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for code in re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        bundled = str(ROOT / "loopcoder" / "models" / "loopcoder-nano")
        runnable = code.replace("path/to/checkpoint", bundled)
        done = subprocess.run(
            [sys.executable, "-c", runnable],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
