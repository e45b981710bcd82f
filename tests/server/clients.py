"""The official clients, set up for a test server, and what a stream of theirs adds up to."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from loopcoder.checkpoint.locate import locate
from loopcoder.checkpoint.tokenizer import load_tokenizer
from tests.server.serving import ROOT

MODEL = "loopcoder-nano"
PROMPT = "def fibonacci(n):\n"
HELLO = [{"role": "user", "content": "Write a function that adds two numbers."}]
ASK: dict[str, Any] = {"model": MODEL, "prompt": PROMPT, "max_tokens": 2, "temperature": 0}
TALK: dict[str, Any] = {"model": MODEL, "messages": HELLO, "max_tokens": 2, "temperature": 0}


@cache
def tokenizer() -> Any:
    """The bundled model's tokenizer, read as the server reads it."""
    return load_tokenizer(locate(MODEL))


def chat_length(messages: list[dict[str, Any]]) -> int:
    """Tokens of a conversation up to where the answer begins."""
    encoded = tokenizer().apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True
    )
    return len(encoded["input_ids"])


@contextmanager
def openai_client(url: str, **options: Any) -> Iterator[OpenAI]:
    """The official Python client; it does not retry, so that every error is seen."""
    options = {"api_key": "none", "max_retries": 0, "timeout": 60, **options}
    with OpenAI(base_url=f"{url}/v1", **options) as client:
        yield client


@dataclass
class Gathered:
    """One choice of a stream, put together."""

    text: str = ""
    pieces: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    logprobs: list[Any] = field(default_factory=list)


def gather(chunks: Iterable[Any]) -> tuple[dict[int, Gathered], Any]:
    """Choices of a completions or chat stream by index, and its usage."""
    choices: dict[int, Gathered] = {}
    usage = None
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            one = choices.setdefault(choice.index, Gathered())
            assert one.finish_reason is None, "nothing comes after the end of a choice"
            piece = choice.text if hasattr(choice, "text") else choice.delta.content
            one.text += piece or ""
            one.pieces.append(piece or "")
            one.finish_reason = choice.finish_reason
            if choice.logprobs is not None:
                one.logprobs.append(choice.logprobs)
    return choices, usage


def check_error(response: httpx.Response, *statuses: int) -> dict[str, Any]:
    """OpenAI's shape, one of the statuses, and nothing of the inside."""
    assert response.status_code in statuses, response.text[:500]
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    for inside in ("Traceback", ".py", "site-packages", str(ROOT), "loopcoder/"):
        assert inside not in response.text
    return error


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "loopcoder-tests"


def installed(name: str, command: list[str], check: str) -> Path:
    """A directory in which `command` (run inside it) has installed something, kept between runs.

    `check` is a path in it that must then exist. Skips the test where the network or the tool is
    missing, with the reason.
    """
    target = _cache() / name
    if (target / check).exists():
        return target
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, ignore_cleanup_errors=True) as scratch:
        work = Path(scratch) / name
        work.mkdir()
        done = subprocess.run(
            command, cwd=work, capture_output=True, text=True, check=False, timeout=300
        )
        if done.returncode != 0 or not (work / check).exists():
            pytest.skip(f"{' '.join(command)} failed: {done.stderr.strip()[-300:]}")
        if not target.exists():  # another worker may have been faster
            work.rename(target)
    return target


def npm(*packages: str) -> Path:
    """A directory whose `node_modules` hold `packages` (name@version)."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    name = "npm-" + "-".join(p.strip("@").replace("/", "-").replace("@", "-") for p in packages)
    first = packages[0].rpartition("@")[0]
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", "."]
    return installed(name, ["npm", "install", *quiet, *packages], f"node_modules/{first}")
