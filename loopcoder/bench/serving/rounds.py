"""Takes turns: every server and the engine alone, in every round. No torch.

Servers that fit in memory together stay up and all but one are stopped by a signal; those that do
not are started for each of their turns.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from loopcoder.bench.process import WorkerError
from loopcoder.bench.serving.clients import forget
from loopcoder.bench.serving.plan import ALONE, OURS, Case, Client, Load, Outcome, Plan
from loopcoder.bench.serving.prompts import write_prompts
from loopcoder.bench.serving.servers import Server, Spec
from loopcoder.records import available_bytes

_PROCESS = 2_500_000_000  # Python, torch, buffers, keys and values of a server
_SHARE = 0.9  # of what is free; the load generator takes some as well
_CLIENT_ENVIRONMENT = {
    "GUIDELLM__MAX_WORKER_PROCESSES": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}


@dataclass(kw_only=True)
class Measured:
    """What one server (`spec` None: the engine alone) did, a list of rounds for each case.

    `first_tokens` are seconds from the start of a process to its first token.
    """

    name: str
    engine: str
    loops: int
    spec: Spec | None
    outcomes: dict[Case, list[Outcome]] = field(default_factory=dict)
    first_tokens: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    skipped: str | None = None


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What measures: the load generator, its Python, a place for files, threads of a server."""

    client: Client
    python: str
    scratch: Path
    threads: int
    report: Callable[[str], None]


class Turns:
    """All servers under the loads of a plan; `run` fills `measured`."""

    def __init__(
        self, specs: Sequence[Spec], directory: Path, weights: int, plan: Plan, tools: Tools
    ) -> None:
        self.directory, self.plan, self.tools = directory, plan, tools
        self.servers = [
            Measured(name=spec.name, engine=spec.engine, loops=spec.loops, spec=spec)
            for spec in specs
        ]
        self.alone = [
            Measured(name=f"{ALONE} {each.name}", engine=ALONE, loops=each.loops, spec=None)
            for each in self.servers
            if each.engine == OURS
        ]
        room = available_bytes()
        needed = (len(specs) + 1) * (_PROCESS + int(1.2 * weights))
        self.together = room is None or needed <= _SHARE * room

    @property
    def measured(self) -> list[Measured]:
        """Ours, ours without a server, peers."""
        ours = [each for each in self.servers if each.engine == OURS]
        peers = [each for each in self.servers if each.engine != OURS]
        return [*ours, *self.alone, *peers]

    def run(self) -> None:
        """Measure every case in every round.

        Raises `WorkerError` where our own engine fails; a peer that does is skipped.
        """
        self._time_starts()
        with ExitStack() as stack:
            running: dict[str, Server] = {}
            if self.together:
                for each in self.servers:
                    with self._skipping(each):
                        self._keep(each, running, stack)
            for number in range(self.plan.rounds):
                for clients in self.plan.clients:
                    self._round(number, clients, running)
                self.tools.report(f"round {number + 1} of {self.plan.rounds}")

    def _time_starts(self) -> None:
        """Start our servers once a round, with nothing else running."""
        for each in self.servers:
            if each.engine == OURS and each.spec is not None:
                for _ in range(self.plan.rounds):
                    with Server(each.spec, threads=self.tools.threads) as server:
                        each.first_tokens.append(server.first_token())

    def _keep(self, each: Measured, running: dict[str, Server], stack: ExitStack) -> None:
        server = stack.enter_context(self._started(each))
        server.stop()
        running[each.name] = server

    @contextmanager
    def _started(self, each: Measured) -> Iterator[Server]:
        assert each.spec is not None
        self.tools.report(f"{each.name}: starting")
        with Server(each.spec, threads=self.tools.threads) as server:
            first = server.first_token()
            if each.engine != OURS:
                each.first_tokens.append(first)
            server.warm_up(self.plan.slots)
            yield server

    def _round(self, number: int, clients: int, running: dict[str, Server]) -> None:
        """One measurement of every case with so many clients."""
        subjects = [*self.servers, *self.alone]
        first = number % len(subjects)  # nobody has the same place in every round
        for stream in self.plan.streams:
            prompts = self._prompts(number, clients, stream)
            for each in subjects[first:] + subjects[:first]:
                if each.skipped is not None:
                    continue
                if each.spec is None:
                    if stream == self.plan.streams[0]:
                        self._answer_alone(each, clients, prompts)
                    continue
                case = Case(engine=each.name, clients=clients, stream=stream)
                with self._skipping(each):
                    self._turn(each, case, prompts, running)

    def _prompts(self, number: int, clients: int, stream: bool) -> Path:
        path = self.tools.scratch / "prompts.jsonl"
        write_prompts(
            path,
            self.directory,
            number=f"{number} {clients} {stream}",
            count=self.plan.count(clients),
            length=self.plan.prompt,
            tokens=self.plan.tokens,
        )
        return path

    def _turn(self, each: Measured, case: Case, prompts: Path, running: dict[str, Server]) -> None:
        """One measurement of a server that otherwise stands still, or does not run."""
        if self.together:
            server = running[each.name]
            server.resume()
            server.warm_up(1)  # another has had the caches
            self._measure(each, server, case, prompts)
            server.stop()
            return
        with self._started(each) as server:
            self._measure(each, server, case, prompts)

    def _measure(self, each: Measured, server: Server, case: Case, prompts: Path) -> None:
        assert case.stream is not None
        load = Load(
            url=server.url,
            model=server.spec.model,
            clients=case.clients,
            requests=self.plan.count(case.clients),
            stream=case.stream,
            prompts=prompts,
            tokenizer=self.directory,
            strict=server.spec.strict,
        )
        before = server.processor_seconds()
        outcome = self._put(load)
        after = server.processor_seconds()
        if before is not None and after is not None:
            outcome = replace(outcome, processor=after - before)
        each.outcomes.setdefault(case, []).append(outcome)

    def _put(self, load: Load) -> Outcome:
        """Run the load generator to its end."""
        tools = self.tools
        forget(tools.scratch)
        command = tools.client.command(tools.python, load, tools.scratch)
        environment = {**os.environ, **_CLIENT_ENVIRONMENT}
        done = subprocess.run(
            command,
            cwd=tools.scratch,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            return tools.client.read(tools.scratch)
        except (OSError, ValueError, LookupError) as error:
            lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            said = lines[-1][:300] if lines else "nothing"
            raise WorkerError(
                f"{tools.client.name} left no result ({type(error).__name__}); it said: {said}; "
                f"{tools.client.advice}"
            ) from error

    def _answer_alone(self, each: Measured, clients: int, prompts: Path) -> None:
        job = self.tools.scratch / "alone.json"
        job.write_text(
            json.dumps(
                {
                    "model": str(self.directory),
                    "prompts": str(prompts),
                    "clients": clients,
                    "tokens": self.plan.tokens,
                    "threads": self.tools.threads,
                    "loops": each.loops,
                }
            ),
            encoding="utf-8",
        )
        done = subprocess.run(
            [sys.executable, "-m", "loopcoder.bench.serving.alone", str(job)],
            env={**os.environ, "OMP_NUM_THREADS": str(self.tools.threads)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise WorkerError(f"{each.name}: {done.stderr.strip().splitlines()[-1]}")
        found = json.loads(done.stdout)
        each.facts = found.pop("facts")
        case = Case(engine=each.name, clients=clients, stream=None)
        each.outcomes.setdefault(case, []).append(Outcome(**found, errors=0))

    @contextmanager
    def _skipping(self, each: Measured) -> Iterator[None]:
        """Go on without a peer that fails; our own server's failure is everybody's."""
        try:
            yield
        except WorkerError as error:
            if each.engine == OURS:
                raise
            self.tools.report(f"{each.name}: skipped: {error}")
            each.skipped = str(error)
            each.outcomes.clear()
