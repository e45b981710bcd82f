"""Endpoints that hang, answer nonsense, or die midway: nothing is lost, unscored is not wrong."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("inspect_ai")

from loopcoder.records.files import read_records
from loopcoder.records.rows import AnswerRow, ScoreRow
from tests.eval.data import DATA, needs_data
from tests.server.serving import Served, serving

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, needs_data]


def _eval(directory: Path, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "loopcoder", "eval", "cruxeval_output", "--data", str(DATA), *words],
        cwd=directory,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _ended(process: "subprocess.Popen[str]", status: int) -> tuple[str, str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == status, f"{process.returncode}: {err[-3000:]}"
    assert "Traceback" not in err, err
    return out, err


def _answers(out: Path) -> list[AnswerRow]:
    rows = read_records(out / "cruxeval_output.jsonl")
    return [row for row in rows if isinstance(row, AnswerRow)]


@contextmanager
def _endpoint(answer: "type[BaseHTTPRequestHandler]") -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), answer)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


class _Garbage(BaseHTTPRequestHandler):
    body = b'{"object": "chat.completion", "choices": 7}'

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._send(self.body)

    def do_GET(self) -> None:
        self._send(json.dumps({"object": "list", "data": [{"id": "m", "chat": True}]}).encode())

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class _Hangs(_Garbage):
    def do_POST(self) -> None:
        time.sleep(600)


@pytest.mark.parametrize("kind", [_Garbage, _Hangs], ids=["garbage", "hangs"])
def test_no_answer_is_unscored(tmp_path: Path, kind: type[_Garbage]) -> None:
    with _endpoint(kind) as url:
        words = ["--base-url", url, "--model", "m", "--limit", "3", "--out", "run"]
        process = _eval(tmp_path, *words, "--timeout", "2", "--retries", "0")
        _, err = _ended(process, 1)
    assert "could not be scored" in err or "no answer" in err
    answers = _answers(tmp_path / "run")
    assert [answer.scores for answer in answers] == [{}] * 3
    assert all(answer.reason.startswith("unscored: ") for answer in answers)
    rows = read_records(tmp_path / "run" / "cruxeval_output.jsonl")
    assert not any(isinstance(row, ScoreRow) for row in rows)


def test_a_run_whose_endpoint_dies_goes_on_at_another(tmp_path: Path) -> None:
    words = ["--model", "loopcoder-nano", "--limit", "24", "--out", "run", "--max-tokens", "60"]
    words += ["--timeout", "20", "--retries", "0", "--max-num-seqs", "2"]
    with serving("--max-num-seqs", "2") as first:
        process = _eval(tmp_path, "--base-url", f"{first.url}/v1", *words)
        end = time.monotonic() + 120
        while _finished(first) < 4 and time.monotonic() < end:
            time.sleep(0.05)
        first.process.kill()
        _ended(process, 1)
    before = {a.problem: a.scores for a in _answers(tmp_path / "run") if a.scores}
    assert 0 < len(before) < 24
    with serving("--max-num-seqs", "2") as second:
        base = f"{second.url}/v1"
        out, _ = _ended(_eval(tmp_path, "--base-url", base, *words, "--json"), 0)
        asked = _finished(second)
    (score,) = json.loads(out)
    assert (score["task"], score["n"], score["unscored"]) == ("cruxeval_output", 24, 0)
    after = {a.problem: a.scores for a in _answers(tmp_path / "run")}
    assert {problem: after[problem] for problem in before} == before
    assert asked <= 24 - len(before)  # what was answered was not asked again


def _finished(server: Served) -> int:
    """How many answers it has written to their end."""
    page = httpx.get(f"{server.url}/metrics").raise_for_status().text
    return sum(
        int(float(n)) for n in re.findall(r"^loopcoder_finished_total\{.*\} (\S+)$", page, re.M)
    )


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        words = ["--base-url", url, "--model", "m", "--limit", "2", "--out", "run"]
        _, err = _ended(_eval(tmp_path, *words, "--timeout", "2", "--retries", "0"), 1)
    assert "onnection" in err


def test_an_interrupted_run_says_how_to_go_on(tmp_path: Path) -> None:
    words = [
        "--model",
        "loopcoder-nano",
        "--prompt",
        "completion",
        "--threads",
        "1",
        "--out",
        "run",
    ]
    process = _eval(tmp_path, *words, "--limit", "200")
    end = time.monotonic() + 120
    while not list(tmp_path.glob("run/logs/*.eval")) and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = _ended(process, 1)
    assert "give the same command again" in err.splitlines()[-1]
    assert not out
    assert not (tmp_path / "run" / "cruxeval_output.jsonl").exists()
