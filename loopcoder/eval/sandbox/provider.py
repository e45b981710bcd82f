"""inspect-ai's sandbox `loopcoder`: any of its tasks runs what a model wrote in bubblewrap.

`--sandbox loopcoder`, or `SandboxEnvironmentSpec("loopcoder", SandboxConfig(...))`. Each sample has
a /tmp of its own that lasts from one command to the next; processes do not.
"""

import errno
import functools
from contextlib import AsyncExitStack
from typing import Any, Literal, overload

from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironment,
    SandboxEnvironmentConfigType,
    SandboxEnvironmentLimits,
    sandboxenv,
)
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt
from typing_extensions import override

from loopcoder.errors import EvaluationError
from loopcoder.eval.sandbox.bubblewrap import Bubblewrap, bubblewrap, cores
from loopcoder.eval.sandbox.types import Limits, Outcome

_SHELL = "/bin/sh"
_MISSING, _DIRECTORY, _FORBIDDEN, _LARGE = 90, 91, 92, 93
_WRITE = (
    f'[ -d "$1" ] && exit {_DIRECTORY}; '
    f'mkdir -p -- "$(dirname -- "$1")" && cat > "$1" || exit {_FORBIDDEN}'
)
_READ = (
    f'[ -d "$1" ] && exit {_DIRECTORY}; [ -e "$1" ] || exit {_MISSING}; '
    f'[ -r "$1" ] || exit {_FORBIDDEN}; '
    f'[ "$(stat -L -c %s -- "$1")" -le "$2" ] || exit {_LARGE}; exec cat -- "$1"'
)


class SandboxConfig(BaseModel):
    """What one sample's commands may use; bytes and seconds. `packages`: what Python can import.

    `seconds` holds for each command, also where a task sets no limit or a longer one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    packages: tuple[str, ...] = ()
    seconds: PositiveFloat = 300.0
    memory_bytes: PositiveInt = 2 << 30
    processes: PositiveInt = 128
    file_bytes: PositiveInt = 128 << 20
    disk_bytes: PositiveInt = 256 << 20

    def limits(self, *, seconds: float | None, output_bytes: int) -> Limits:
        """These limits for one command."""
        return Limits(
            seconds=self.seconds if seconds is None else min(self.seconds, seconds),
            memory_bytes=self.memory_bytes,
            processes=self.processes,
            file_bytes=self.file_bytes,
            disk_bytes=self.disk_bytes,
            output_bytes=output_bytes,
        )


@functools.cache
def _sandbox(packages: tuple[str, ...]) -> Bubblewrap:
    return bubblewrap(packages)


@sandboxenv(name="loopcoder")
class LoopCoderSandbox(SandboxEnvironment):
    """One sample's sandbox."""

    def __init__(self, sandbox: Bubblewrap, config: SandboxConfig, held: AsyncExitStack) -> None:
        super().__init__()
        self._sandbox, self._config, self._held = sandbox, config, held

    @override
    @classmethod
    def default_concurrency(cls) -> int | None:
        return cores()

    @override
    @classmethod
    def config_deserialize(cls, config: dict[str, Any]) -> BaseModel:
        return SandboxConfig(**config)

    @override
    @classmethod
    async def sample_init(
        cls,
        task_name: str,
        config: SandboxEnvironmentConfigType | None,
        metadata: dict[str, str],
    ) -> dict[str, SandboxEnvironment]:
        if config is not None and not isinstance(config, SandboxConfig):
            raise EvaluationError(
                f"the sandbox loopcoder got {config!r}; it takes a SandboxConfig and no file "
                "(a compose.yaml is Docker's)"
            )
        config = config or SandboxConfig()
        held = AsyncExitStack()
        limits = config.limits(seconds=None, output_bytes=1 << 20)
        kept = await held.enter_async_context(_sandbox(config.packages).keep(limits))
        return {"default": cls(kept, config, held)}

    @override
    @classmethod
    async def sample_cleanup(
        cls,
        task_name: str,
        config: SandboxEnvironmentConfigType | None,
        environments: dict[str, SandboxEnvironment],
        interrupted: bool,
    ) -> None:
        for environment in environments.values():
            await environment.as_type(cls)._held.aclose()

    @override
    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        _check_user(user)
        argv = cmd if cwd is None else ["/usr/bin/env", "-C", cwd, "--", *cmd]
        size = SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE
        try:
            outcome = await self._run(argv, input, env, timeout, 2 * size)
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            return ExecResult(False, 126, "", "the command's arguments are too long")
        stdout, stderr = (_text(said, size) for said in (outcome.stdout, outcome.stderr))
        if outcome.stopped is not None:
            stderr += f"\nstopped: the limit on {outcome.stopped} was reached\n"
        return ExecResult(outcome.returncode == 0, outcome.returncode, stdout, stderr)

    async def _run(
        self,
        argv: list[str],
        input: str | bytes | None,
        env: dict[str, str] | None,
        timeout: float | None,
        output_bytes: int,
    ) -> Outcome:
        limits = self._config.limits(seconds=timeout, output_bytes=output_bytes)
        data = input.encode() if isinstance(input, str) else input or b""
        outcome = await self._sandbox.run(argv, stdin=data, env=env or {}, limits=limits)
        if outcome.stopped == "time":
            raise TimeoutError(f"the command ran for more than {limits.seconds:g} s")
        if outcome.stopped == "output":
            said = (outcome.stdout or outcome.stderr).decode(errors="replace")
            raise OutputLimitExceededError(f"{output_bytes} bytes", said)
        return outcome

    @override
    async def write_file(self, file: str, contents: str | bytes) -> None:
        outcome = await self._run([_SHELL, "-c", _WRITE, _SHELL, file], contents, None, None, 4096)
        _raise_for(outcome, file)

    @overload
    async def read_file(self, file: str, text: Literal[True] = True) -> str: ...

    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...

    @override
    async def read_file(self, file: str, text: bool = True) -> str | bytes:
        size = SandboxEnvironmentLimits.MAX_READ_FILE_SIZE
        argv = [_SHELL, "-c", _READ, _SHELL, file, str(size)]
        outcome = await self._run(argv, None, None, None, size + 4096)
        _raise_for(outcome, file)
        return outcome.stdout.decode() if text else outcome.stdout


def _check_user(user: str | None) -> None:
    if user not in (None, "user", "1000"):
        from inspect_ai.util import SandboxUserUnsupportedError

        raise SandboxUserUnsupportedError(
            f"the sandbox loopcoder has one user without rights; it cannot run as {user!r}"
        )


def _text(said: bytes, limit: int) -> str:
    if len(said) > limit:
        raise OutputLimitExceededError(
            SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE_STR, said[:limit].decode(errors="replace")
        )
    return said.decode(errors="replace")


def _raise_for(outcome: Outcome, file: str) -> None:
    """Reading and writing happen inside: a link that a program left leads nowhere else."""
    if outcome.returncode == 0:
        return
    said = outcome.stderr.decode(errors="replace").strip()
    if outcome.returncode == _MISSING:
        raise FileNotFoundError(errno.ENOENT, "no such file in the sandbox", file)
    if outcome.returncode == _DIRECTORY:
        raise IsADirectoryError(errno.EISDIR, "a directory in the sandbox", file)
    if outcome.returncode == _LARGE:
        raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR, None)
    raise PermissionError(errno.EACCES, said or "not allowed in the sandbox", file)
