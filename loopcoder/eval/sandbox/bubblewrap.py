"""The sandbox: bubblewrap (https://github.com/containers/bubblewrap), limits, and nothing shared.

What a program sees: this system's programs and libraries (/usr) and one Python, read-only; an empty
/tmp of its own, in memory and of limited size; its own processes; no network; a user without any
right, also when we are root.
"""

import asyncio
import os
import shutil
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

from loopcoder.errors import EvaluationError
from loopcoder.eval.sandbox.interpreter import find_interpreter
from loopcoder.eval.sandbox.launch import TOOLS, Kept, Plan
from loopcoder.eval.sandbox.relay import make_namespace, mount_point
from loopcoder.eval.sandbox.session import run_to_end, talking
from loopcoder.eval.sandbox.supervise import Supervisor
from loopcoder.eval.sandbox.types import USUAL, Limits, Outcome, Session

# Of each event loop, as many permits as there are processors.
_Free = weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]


def cores() -> int:
    """How many processors this process may use: so many programs run at once."""
    return len(os.sched_getaffinity(0))


def bubblewrap(packages: tuple[str, ...] = ()) -> "Bubblewrap":
    """A sandbox whose Python has the standard library and the installed `packages` named.

    A package's dependencies are named as well or are not there. Raises `EvaluationError`, with
    what to do, where bubblewrap is missing or the system does not let it work.
    """
    if sys.platform != "linux" or shutil.which("bwrap", path=TOOLS) is None:
        raise EvaluationError(
            "code that a model wrote runs in bubblewrap, which is not here; install it "
            "(`apt install bubblewrap`, `dnf install bubblewrap`), or type --unsafe-local to run "
            "such code with all your rights"
        )
    plan = Plan(interpreter=find_interpreter(packages))
    plan = replace(plan, point=mount_point(plan.sources()))
    if os.geteuid() == 0:
        plan = replace(plan, namespace=make_namespace(plan.point, plan.sources()))
    made = Bubblewrap(plan)
    if plan.namespace is not None:
        weakref.finalize(made, os.close, plan.namespace)
    made.check()
    return made


class Bubblewrap:
    """A `Sandbox` (types). `run` waits for a free processor; sessions are the caller's to count."""

    name = "bubblewrap"

    def __init__(self, plan: Plan, kept: Kept | None = None, free: "_Free | None" = None) -> None:
        self.plan = plan
        self._kept = kept
        self.python = str(plan.interpreter.python)
        self._free: _Free = weakref.WeakKeyDictionary() if free is None else free

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        files: Mapping[str, bytes] = {},
        env: Mapping[str, str] = {},
        limits: Limits = USUAL,
    ) -> Outcome:
        """Run a program to its end; `files` (name: content) lie in /tmp, its working directory.

        Nothing of it is alive afterwards. Raises `EvaluationError` where the sandbox itself, not
        the program, fails.
        """
        loop = asyncio.get_running_loop()
        async with self._free.setdefault(loop, asyncio.Semaphore(cores())):
            launch = self.plan.run(argv, files, env, limits, stdin=stdin, kept=self._kept)
            return await run_to_end(launch, limits)

    def session(
        self,
        argv: Sequence[str],
        *,
        files: Mapping[str, bytes] = {},
        env: Mapping[str, str] = {},
        limits: Limits = USUAL,
    ) -> AbstractAsyncContextManager[Session]:
        """A program to talk with. Its time limit is of its whole life; leaving kills everything."""
        return self._talk(argv, files, env, limits)

    @asynccontextmanager
    async def _talk(
        self,
        argv: Sequence[str],
        files: Mapping[str, bytes],
        env: Mapping[str, str],
        limits: Limits,
    ) -> AsyncIterator[Session]:
        launch = self.plan.run(argv, files, env, limits, stdin=None, kept=self._kept)
        async with talking(launch, limits) as running:
            yield running

    @asynccontextmanager
    async def keep(self, limits: Limits = USUAL) -> AsyncIterator["Bubblewrap"]:
        """The same sandbox with a /tmp that lasts from run to run, until this is left.

        It holds `limits.disk_bytes` (the runs' own are not looked at), in memory: nothing of it is
        on a disk. Between two runs no process lives.
        """
        if self.plan.namespace is not None:
            kept = self.plan.keep(limits)
            assert kept.namespace is not None
            try:
                yield Bubblewrap(self.plan, kept, self._free)
            finally:
                os.close(kept.namespace)
            return
        holder = self.plan.holder(limits)
        async with talking(holder, replace(limits, seconds=float("inf"))) as running:
            kept = Kept(place=self.plan.point, holder=running.pid)
            yield Bubblewrap(self.plan, kept, self._free)

    def check(self) -> None:
        """Run Python once. Raises `EvaluationError` with what the system answered."""
        limits = replace(USUAL, seconds=60.0)
        launch = self.plan.run([self.python, "-c", "import site"], {}, {}, limits, stdin=b"")
        supervisor = Supervisor(launch, limits, lambda: None)
        thread = threading.Thread(target=supervisor.run)
        thread.start()
        thread.join()
        outcome = supervisor.outcome
        if outcome is not None and outcome.returncode == 0:
            return
        said = str(supervisor.failure) if outcome is None else outcome.stderr.decode().strip()
        raise EvaluationError(
            f"bubblewrap does not work here ({said}); it needs version 0.8 and user namespaces "
            "(Ubuntu: `sysctl kernel.apparmor_restrict_unprivileged_userns=0`; in a container: "
            "--security-opt seccomp=unconfined --security-opt systempaths=unconfined)"
        ) from supervisor.failure
