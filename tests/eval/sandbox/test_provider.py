"""inspect-ai's sandbox `loopcoder`: its commands, its files, what it refuses, and a task."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from loopcoder.errors import EvaluationError
from tests.eval.sandbox.support import sandbox_or_skip

pytest.importorskip("inspect_ai")
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.scorer import CORRECT, INCORRECT, Score, Scorer, Target, accuracy, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.util import (
    OutputLimitExceededError,
    SandboxEnvironment,
    SandboxEnvironmentSpec,
    SandboxUserUnsupportedError,
    sandbox,
)

from loopcoder.eval.sandbox.provider import LoopCoderSandbox, SandboxConfig

pytestmark = pytest.mark.slow


@asynccontextmanager
async def _sample(config: SandboxConfig | None = None) -> AsyncIterator[SandboxEnvironment]:
    environments = await LoopCoderSandbox.sample_init("task", config, {})
    try:
        yield environments["default"]
    finally:
        await LoopCoderSandbox.sample_cleanup("task", config, environments, False)


def _in_a_sample(
    body: Callable[[SandboxEnvironment], Awaitable[None]], config: SandboxConfig | None = None
) -> None:
    sandbox_or_skip()

    async def run() -> None:
        async with _sample(config) as environment:
            await body(environment)

    asyncio.run(run())


def test_files_last_from_command_to_command() -> None:
    async def body(box: SandboxEnvironment) -> None:
        await box.write_file("a/b.txt", "läuft\r\n")
        await box.write_file("/tmp/c", b"\xff\x00")
        done = await box.exec(["sh", "-c", "cat a/b.txt; echo more >> a/b.txt; exit 3"])
        assert (done.success, done.returncode, done.stdout) == (False, 3, "läuft\r\n")
        assert await box.read_file("a/b.txt") == "läuft\r\nmore\n"
        assert await box.read_file("c", text=False) == b"\xff\x00"
        with pytest.raises(UnicodeDecodeError):
            await box.read_file("c")

    _in_a_sample(body)


def test_what_a_command_is_given() -> None:
    async def body(box: SandboxEnvironment) -> None:
        await box.exec(["mkdir", "-p", "in"])
        code = "import os, sys; print(sys.stdin.read(), os.environ['A'], os.getcwd())"
        python = ["python", "-c", code]
        done = await box.exec(python, input="text", env={"A": "b"}, cwd="in", user="user")
        assert done.stdout == "text b /tmp/in\n", done
        assert not (await box.exec(["true"], cwd="/none")).success
        assert not (await box.exec(["/no/such"])).success
        assert (await box.exec(["true", "x" * (1 << 20)])).returncode == 126
        with pytest.raises(SandboxUserUnsupportedError):
            await box.exec(["true"], user="root")

    _in_a_sample(body)


def test_two_samples_share_nothing() -> None:
    sandbox_or_skip()

    async def run() -> None:
        async with _sample() as one, _sample() as other:
            await one.write_file("x", "one")
            with pytest.raises(FileNotFoundError):
                await other.read_file("x")

    asyncio.run(run())


def test_links_lead_nowhere(tmp_path: Path) -> None:
    """Reading and writing as ourselves, we would follow what a program left to our own files."""
    secret = tmp_path / "secret"
    secret.write_text("ours")

    async def body(box: SandboxEnvironment) -> None:
        await box.exec(["ln", "-s", str(secret), "link"])
        await box.exec(["ln", "-s", "/usr/bin/env", "program"])
        with pytest.raises(FileNotFoundError):
            await box.read_file("link")
        with pytest.raises(PermissionError):
            await box.write_file("link", "theirs")
        with pytest.raises(PermissionError):
            await box.write_file("program", "theirs")
        with pytest.raises(IsADirectoryError):
            await box.read_file("/tmp")
        with pytest.raises(IsADirectoryError):
            await box.write_file("/tmp", "theirs")

    _in_a_sample(body)
    assert secret.read_text() == "ours"


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(box: SandboxEnvironment) -> None:
        with pytest.raises(TimeoutError):
            await box.exec(["sleep", "60"], timeout=1)
        with pytest.raises(OutputLimitExceededError):
            await box.exec(["cat", "/dev/zero"], timeout=60)
        full = await box.exec(["sh", "-c", "cat /dev/zero > a; cat /dev/zero > b; sleep 60"])
        assert "limit on disk" in full.stderr, full
        code = "x = []\nwhile True: x.append(b'x' * 999_999)"
        large = await box.exec(["python", "-c", code], timeout=60)
        assert "limit on memory" in large.stderr, large
        await box.exec(["sh", "-c", "rm -f a b"])
        assert (await box.exec(["echo", "going on"])).stdout == "going on\n"

    small = SandboxConfig(memory_bytes=96 << 20, disk_bytes=8 << 20, file_bytes=6 << 20, seconds=90)
    _in_a_sample(body, small)


def test_a_file_of_docker_is_refused() -> None:
    with pytest.raises(EvaluationError, match=r"compose\.yaml"):
        asyncio.run(LoopCoderSandbox.sample_init("task", "compose.yaml", {}))


@solver
def _writes() -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        await sandbox().write_file("answer", state.input_text)
        return state

    return solve


@scorer(metrics=[accuracy()])
def _runs() -> Scorer:
    async def score(state: TaskState, target: Target) -> Score:
        done = await sandbox().exec(["python", "answer"], timeout=60)
        return Score(value=CORRECT if done.stdout.strip() == target.text else INCORRECT)

    return score


@pytest.mark.filterwarnings("ignore:Unclosed:ResourceWarning")  # inspect-ai's own streams
@pytest.mark.filterwarnings("ignore:The 'initial' parameter:DeprecationWarning")  # its tenacity
def test_a_task_of_inspect(tmp_path: Path) -> None:
    """Four samples at once, one of them hostile; the others are scored."""
    sandbox_or_skip()
    hostile = "import os\nopen('/usr/x', 'w')"
    samples = [Sample(input=f"print({n} * 2)", target=str(n * 2)) for n in range(3)]
    task = Task(
        dataset=[*samples, Sample(input=hostile, target="0")],
        solver=_writes(),
        scorer=_runs(),
        sandbox=SandboxEnvironmentSpec("loopcoder", SandboxConfig(seconds=60)),
    )
    (log,) = eval(task, model="mockllm/model", display="none", log_dir=str(tmp_path))
    assert log.status == "success", log.error
    assert log.results is not None
    assert log.results.scores[0].metrics["accuracy"].value == 0.75
    gc.collect()  # those streams are warned of here, not in whatever test comes next
