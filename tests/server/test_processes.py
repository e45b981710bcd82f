"""Two processes: who ends when, and with what to say."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.server.serving import ROOT, serving

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
PROMPT = {"prompt": "def f(", "max_tokens": 2000, "ignore_eos": True, "stream": True}


def _children(pid: int) -> list[int]:
    return [int(x) for x in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _wait_gone(pid: int, timeout: float = 20) -> None:
    end = time.monotonic() + timeout
    while _alive(pid):
        assert time.monotonic() < end, f"process {pid} is still there"
        time.sleep(0.02)


def _failing(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loopcoder", "serve", *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


def test_the_front_holds_no_torch() -> None:
    with serving() as server:
        mapped = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "libtorch" not in mapped
        (engine,) = _children(server.process.pid)
        assert "libtorch" in Path(f"/proc/{engine}/maps").read_text()


@pytest.mark.slow
def test_an_engine_that_dies_ends_the_server_and_its_streams_are_told() -> None:
    with serving() as server:
        (engine,) = _children(server.process.pid)
        with httpx.stream("POST", f"{server.url}/v1/completions", json=PROMPT) as response:
            lines = response.iter_lines()
            next(lines)
            os.kill(engine, signal.SIGKILL)
            rest = "\n".join(lines)
        assert '"error"' in rest
        assert "engine_dead" in rest
        assert server.process.wait(timeout=20) == 1
        assert "engine process ended" in server.logged()


@pytest.mark.slow
def test_a_front_that_is_killed_takes_its_engine_along() -> None:
    with serving() as server:
        (engine,) = _children(server.process.pid)
        server.process.kill()
        _wait_gone(engine)


@pytest.mark.slow
def test_signals_to_the_engine_alone_change_nothing() -> None:
    """Ctrl-C and systemd signal every process; only the front decides."""
    with serving() as server:
        (engine,) = _children(server.process.pid)
        os.kill(engine, signal.SIGTERM)
        os.kill(engine, signal.SIGINT)
        body = {"prompt": "def f(", "max_tokens": 2}
        assert httpx.post(f"{server.url}/v1/completions", json=body).status_code == 200


def test_a_library_that_is_not_there_is_one_line() -> None:
    """As in an environment without the extra."""
    bare = "import sys; sys.modules['fastapi'] = None; sys.argv[1:] = ['serve', '--port', '0']\n"
    finder = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'fastapi' else find(name, *a)\n"
    )
    run = "from loopcoder.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", bare + finder + run],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2, done.stderr
    assert "loopcoder[serve]" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_port_in_use_is_one_line() -> None:
    with serving() as server:
        port = server.url.rpartition(":")[2]
        done = _failing("--port", port)
    assert done.returncode == 2
    assert port in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--model", "no-such-model"), "no-such-model"),
        (("--host", "256.1.1.1"), "256.1.1.1"),
        (("--port", "70000"), "70000"),
        (("--api-key", "two words"), "API key"),
        (("--max-num-seqs", "0"), "max_num_seqs"),
        (("--dtype", "int3"), "int3"),
        (("--loops", "0"), "loops"),
        (("--max-model-len", "1000000"), "max_model_len"),
        (("--kv-cache-memory-bytes", "1"), "kv_cache_memory_bytes"),
        (("--device", "toaster"), "toaster"),
    ],
)
def test_a_wrong_option_is_one_line(options: tuple[str, ...], named: str) -> None:
    done = _failing("--port", "0", *options)
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
