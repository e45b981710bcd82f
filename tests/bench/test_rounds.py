"""Turns between real worker processes."""

import os
import signal
import sys
from pathlib import Path

import pytest

from loopcoder.bench import memory_size
from loopcoder.bench.plan import OURS, Case, Subject, our_cases, subjects
from loopcoder.bench.process import Worker, WorkerError
from loopcoder.bench.rounds import Comparison
from loopcoder.bench.worker import NotInstalledError
from loopcoder.errors import RequestError
from tests.bench.shapes import CONFIG, WORKLOADS, job, message

OURS_FLOAT = Subject(engine=OURS, quantization=None, cases=(Case(loops=2),))


def state(pid: int) -> str:
    """The kernel's letter for a process: R running, S waiting, T stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_stopped_worker_stands_still_and_goes_on(tmp_path: Path) -> None:
    with Worker(OURS, threads=1) as worker:
        worker.ask("load", job=message(OURS_FLOAT, tmp_path))
        worker.stop()
        os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WNOWAIT)
        assert state(worker.pid) == "T"
        worker.resume()
        assert worker.ask("read") > 0
    assert not Path(f"/proc/{worker.pid}").exists()


def test_a_stopped_worker_ends_with_its_parent(tmp_path: Path) -> None:
    """Nobody is left to wake it: the system must, and end it."""
    code = (
        "import os, signal, sys\n"
        "from loopcoder.bench.process import Worker\n"
        "worker = Worker('loopcoder', threads=1)\n"
        "worker.stop()\n"
        "os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WNOWAIT)\n"
        "print(worker.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    import subprocess
    import time

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout)
    for _ in range(600):
        if not Path(f"/proc/{pid}").exists() or state(pid) == "Z":
            return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the worker outlived its parent")


def test_what_goes_wrong_in_a_worker_is_one_line(tmp_path: Path) -> None:
    with (
        Worker(OURS, threads=1) as worker,
        pytest.raises(WorkerError, match=r"^loopcoder could not measure: 'never prepared'$"),
    ):
        worker.ask("measure", key="never prepared", number=0)
    with pytest.raises(WorkerError, match="--peer-python vllm=PATH"):
        Worker("vllm", python="/no/such/python", threads=1)


def test_an_engine_that_is_not_installed_says_how_to_get_it(tmp_path: Path) -> None:
    import venv

    venv.create(tmp_path / "empty", with_pip=False)
    python = str(tmp_path / "empty" / "bin" / "python")
    for engine in ("transformers", "vllm", "llama.cpp"):
        with (
            Worker(engine, python=python, threads=1) as worker,
            pytest.raises(NotInstalledError, match=r"is not installed.*(pip install|environment)"),
        ):
            worker.ask("load", job={})


@pytest.mark.slow
@pytest.mark.parametrize("together", [True, False])
def test_every_case_is_measured_in_every_round(together: bool, tmp_path: Path) -> None:
    lines: list[str] = []
    work = WORKLOADS["decode"]
    several = subjects(our_cases((1, 2), (None, "int8")), ("transformers",), {})
    comparison = Comparison(several, job(), work, tmp_path, lines.append)
    comparison.together = together
    timings = comparison.run(3)
    assert [timing.case.name for timing in timings] == [
        "R1 parallel",
        "R2 parallel",
        "transformers bf16",
        "R1 parallel int8",
        "R2 parallel int8",
    ]
    assert all(len(timing.seconds) == len(timing.plain_reads) == 3 for timing in timings)
    loads = [line for line in lines if line == "R1 parallel: loading"]
    assert len(loads) == (1 if together else 2)


def test_a_peer_that_fails_is_skipped_and_the_others_go_on(tmp_path: Path) -> None:
    """A Python without the engine; ours is measured all the same."""
    import venv

    venv.create(tmp_path / "empty", with_pip=False)
    python = str(tmp_path / "empty" / "bin" / "python")
    several = subjects([Case(loops=2)], ("vllm",), {"vllm": python})
    ours, peer = Comparison(several, job(), WORKLOADS["decode"], tmp_path, print).run(1)
    assert len(ours.seconds) == 1
    assert peer.skipped is not None
    assert "vllm is not installed" in peer.skipped


def test_what_does_not_fit_even_alone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_size, "available_bytes", lambda: 10**8)
    monkeypatch.setattr("loopcoder.bench.rounds.available_bytes", lambda: 10**8)
    with pytest.raises(RequestError, match=r"\d\.\d GB at this shape and 0\.1 GB are free"):
        Comparison([OURS_FLOAT], job(), WORKLOADS["decode"], tmp_path, print)


def test_the_estimate_of_memory_covers_the_weights() -> None:
    from loopcoder.model import cost

    assert memory_size.subject_bytes(OURS_FLOAT, job()) > 2 * cost.parameters(CONFIG).total
    assert (memory_size.available_bytes() or 1) > 0
