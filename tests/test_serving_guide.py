"""Every example of docs/serving.md, run as a reader would, against a real server."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.clients import MODEL, installed, npm
from tests.server.serving import serving

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
ADDRESS = "http://localhost:8000"
CONTINUE = ("@continuedev/config-yaml@1.42.0", "@continuedev/openai-adapters@1.37.0")
LLM = "llm==0.36"


def blocks(language: str) -> list[str]:
    """The guide's code blocks of a language."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
    return found


def containing(language: str, *words: str) -> str:
    """The one block that contains all of `words`."""
    (found,) = [block for block in blocks(language) if all(word in block for word in words)]
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with serving() as started:
        yield started


def run(
    command: list[str], server: Any, directory: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A finished process in `directory`; it must have succeeded."""
    done = subprocess.run(
        [word.replace(ADDRESS, server.url) for word in command],
        cwd=directory,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def shell(block: str, server: Any, directory: Path, **environment: str) -> str:
    """Standard output of a block of shell commands."""
    return run(["bash", "-euc", block], server, directory, **environment).stdout


def test_every_block_has_its_test() -> None:
    """What is added to the guide must be added here."""
    assert sorted(re.findall(r"^```(\w+)$", GUIDE, re.MULTILINE)) == sorted(
        ["sh"] * 5 + ["python"] * 4 + ["yaml"] * 2 + ["js", "ini"]
    )


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(server: Any, tmp_path: Path) -> None:
    first = containing("sh", "/v1/models", "curl")
    # Without a failure status an error's JSON would pass for an answer.
    output = shell(first.replace("curl ", "curl --fail-with-body -sS "), server, tmp_path)
    assert f'"id":"{MODEL}"' in output
    assert '"object":"text_completion"' in output
    assert output.rstrip().endswith("data: [DONE]")
    choice = containing("sh", "curl", "structured_outputs")
    answer = json.loads(shell(choice.replace("curl ", "curl -sS "), server, tmp_path))
    assert answer["choices"][0]["text"] in ("yes", "no")


@pytest.mark.parametrize("block", blocks("python"))
def test_python(server: Any, tmp_path: Path, block: str) -> None:
    for module in set(re.findall(r"^from (\w+) import", block, re.MULTILINE)):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    done = run([sys.executable, "-W", "error", "-c", block], server, tmp_path)
    assert done.stdout.strip()
    if "loop_lens" in block:
        lines = done.stdout.strip().splitlines()
        assert len(lines) == 8
        assert all("shift" in line and "loops 1 and 2" in line for line in lines)
    if "Review" in block:
        assert "verdict=" in done.stdout
        assert "weather" in done.stdout


def test_javascript(server: Any, tmp_path: Path) -> None:
    (block,) = blocks("js")
    (tmp_path / "node_modules").symlink_to(npm("openai@7.57.0") / "node_modules")
    (tmp_path / "example.mjs").write_text(block.replace(ADDRESS, server.url))
    assert run(["node", "example.mjs"], server, tmp_path).stdout.strip()


@pytest.mark.slow
def test_inspect(server: Any, tmp_path: Path) -> None:
    if find_spec("inspect_ai") is None:
        pytest.skip("inspect-ai is not installed")
    # Beside this Python, not what else is on the path.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    output = shell(containing("sh", "inspect eval"), server, tmp_path, PATH=path)
    assert "adding" in output
    (log,) = (tmp_path / "logs").iterdir()
    assert log.stat().st_size > 500


@pytest.mark.slow
def test_continue(server: Any, tmp_path: Path) -> None:
    """Read, checked and sent by Continue's own packages."""
    packages = npm(*CONTINUE)
    (tmp_path / "config.yaml").write_text(
        containing("yaml", "provider: openai").replace(ADDRESS, server.url)
    )
    script = ROOT / "tests" / "server" / "js" / "continue.mjs"
    done = run(["node", str(script), "config.yaml", str(packages)], server, tmp_path)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["complaints"] == []
    assert found["models"] == [MODEL]
    assert found["roles"] == [["chat", "edit", "apply"], ["autocomplete"]]
    assert found["chat"]
    assert found["text"]
    # The template writes what `suffix` does.
    asked = httpx.post(
        f"{server.url}/tokenize", json={"prompt": found["prompt"]}, timeout=30
    ).json()["count"]
    body = {
        "model": MODEL,
        "prompt": "def add(a, b):\n    return ",
        "suffix": "\n\nprint(add(1, 2))\n",
        "max_tokens": 1,
    }
    filled = httpx.post(f"{server.url}/v1/completions", json=body, timeout=30).json()
    assert filled["usage"]["prompt_tokens"] == asked


@pytest.mark.slow
def test_llm(server: Any, tmp_path: Path) -> None:
    python = "bin/python"
    install = f"'{sys.executable}' -m venv . && ./{python} -m pip install -q {LLM}"
    home = installed(LLM.replace("==", "-"), ["bash", "-c", install], "bin/llm")
    models = containing("yaml", "model_id")
    (tmp_path / "extra-openai-models.yaml").write_text(models.replace(ADDRESS, server.url))
    calls = containing("sh", "llm -m").replace("llm -m", f"'{home / python}' -m llm -m")
    before = server.idle()["generated_tokens"]
    assert len(shell(calls, server, tmp_path, LLM_USER_PATH=str(tmp_path)).strip()) > 20
    assert 2 <= server.idle()["generated_tokens"] - before <= 64


def test_the_unit_file_starts_the_server() -> None:
    (unit,) = blocks("ini")
    (command,) = re.findall(r"^ExecStart=\S+ (.*)$", unit, re.MULTILINE)
    assert command.startswith("serve ")
    drain = int(command.rpartition("--drain-timeout ")[2])
    assert int(re.findall(r"TimeoutStopSec=(\d+)", unit)[0]) > drain
    check_options(command)


def check_options(text: str) -> None:
    """Every `--option` of `text` is one of the command's."""
    shown = subprocess.run(
        [sys.executable, "-m", "loopcoder", "serve", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200"},
    ).stdout
    known = set(re.findall(r"--[a-z][a-z-]+", shown))
    assert set(re.findall(r"--[a-z][a-z-]+", text)) <= known


def section(title: str) -> str:
    """The text under a heading."""
    return GUIDE.split(f"## {title}\n")[1].split("\n## ")[0]


def test_options_and_limits_are_the_servers() -> None:
    from loopcoder.server.settings import ServerSettings

    text = section("Options and limits")
    check_options(text)
    settings = ServerSettings()
    assert settings.max_body_bytes == 8 << 20
    assert settings.max_schema_bytes == 64 << 10
    for value in (
        f"arrive within {settings.body_timeout:g} s",
        f"{settings.max_prompts} prompts",
        f"`n` of {settings.max_n}",
        f"{settings.max_stop} stop strings of {settings.max_stop_length} characters",
        f"{settings.max_logprobs} log-probabilities",
        f"{settings.max_tools} tools",
        f"| `--max-queue` | {settings.max_queue} |",
        f"| {settings.request_timeout:g}, {settings.drain_timeout:g} | seconds",
        f"| {settings.host}, {settings.port} |",
    ):
        assert value in text, value


def test_metrics_and_endpoints_are_the_servers(server: Any) -> None:
    body = {"model": MODEL, "prompt": "a", "max_tokens": 3}
    httpx.post(f"{server.url}/v1/completions", json=body, timeout=30).raise_for_status()
    server.idle()
    exported = httpx.get(f"{server.url}/metrics").text
    listed = re.findall(r"`([a-z_]+)(?:\{[a-z,]+\})?`", section("Metrics"))
    for name in [each for each in listed if "_" in each]:
        full = name if name.startswith("process_") else f"loopcoder_{name}"
        assert full in exported, name
    described = re.findall(r"^# TYPE loopcoder_(\w+) ", exported, re.MULTILINE)
    for name in [each for each in described if not each.endswith("_created")]:
        assert name in section("Metrics"), name
    for path in httpx.get(f"{server.url}/openapi.json").json()["paths"]:
        assert path.replace("{name}", "NAME") in section("Endpoints"), path


def test_fields_that_the_guide_names_are_taken(server: Any) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()["components"]["schemas"]
    own = section("Endpoints").split("Beyond OpenAI's fields")[1].split("A field that")[0]
    for name in re.findall(r"`(\w+)`", own):
        for schema in ("CompletionBody", "ChatBody"):
            assert name in document[schema]["properties"], name
