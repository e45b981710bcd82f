"""Takes turns: every engine in every round, all but one of them stopped. No torch.

Engines that fit in memory together stay loaded and alternate measurement by measurement (A B A B).
Those that do not are loaded one after another, several times over, for a share of the rounds each.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loopcoder.bench.memory_size import fit, subject_bytes
from loopcoder.bench.plan import OURS, Case, Job, Subject, Workload
from loopcoder.bench.process import Worker, WorkerError
from loopcoder.bench.summary import Timing
from loopcoder.bench.worker import NotInstalledError
from loopcoder.errors import RequestError
from loopcoder.records import available_bytes

VISITS = 2  # times that each engine is loaded where they do not fit together

Report = Callable[[str], None]


class Comparison:
    """All cases of some engines on one workload; `run` fills `timings`."""

    def __init__(
        self, subjects: Sequence[Subject], job: Job, work: Workload, scratch: Path, report: Report
    ) -> None:
        self.job, self.work, self.scratch, self.report = job, work, scratch, report
        self.subjects = list(subjects)
        self.timings = {case: Timing(case=case) for s in subjects for case in s.cases}
        self.rounds = 0
        self.together = fit(self.subjects, job)
        if not self.together:
            self._check_one_at_a_time()

    def run(self, rounds: int) -> list[Timing]:
        """Measure every case `rounds` times.

        Raises `WorkerError` where our own engine fails; a peer that does is skipped.
        """
        self.rounds = rounds
        if self.together:
            self._visit(self.subjects, range(rounds))
        else:
            self.report("not enough memory for all at once: one after another, in turns")
            visits = min(VISITS, rounds)
            for visit in range(visits):
                share = range(rounds * visit // visits, rounds * (visit + 1) // visits)
                for subject in self.subjects:
                    self._visit([subject], share)
        self._share_plain_reads()
        return list(self.timings.values())

    def _check_one_at_a_time(self) -> None:
        room = available_bytes() or 0
        for subject in self.subjects:
            needed = subject_bytes(subject, self.job)
            if needed > room:
                raise RequestError(
                    f"{subject.engine} would take about {needed / 1e9:.1f} GB at this shape and "
                    f"{room / 1e9:.1f} GB are free; use fewer layers (--layers N)"
                )

    def _visit(self, subjects: Sequence[Subject], rounds: range) -> None:
        """Load the subjects, go through the rounds, and end their processes."""
        with ExitStack() as stack:
            stations: list[tuple[Subject, Worker]] = []
            for subject in subjects:
                if self._skipped(subject):
                    continue
                worker = stack.enter_context(self._loaded(subject))
                if worker is not None:
                    stations.append((subject, worker))
            for number in rounds:
                for subject, worker in stations:
                    if self._skipped(subject):
                        continue
                    try:
                        self._turn(subject, worker, number, alone=len(stations) == 1)
                    except WorkerError as error:
                        self._skip(subject, error)
                self.report(f"round {number + 1} of {self.rounds}")

    @contextmanager
    def _loaded(self, subject: Subject) -> Iterator[Worker | None]:
        """A stopped worker with its cases prepared; None if the engine cannot run them."""
        with Worker(subject.engine, python=subject.python, threads=self.job.threads) as worker:
            yield worker if self._load(subject, worker) else None

    def _load(self, subject: Subject, worker: Worker) -> bool:
        self.report(f"{subject.cases[0].name}: loading")
        try:
            message = {**self.job.message(subject), "scratch": str(self.scratch)}
            facts = worker.ask("load", job=message)
            for case in subject.cases:
                self.report(f"{case.name}: preparing")
                self._ask(worker, "prepare", case)
                if self.work.kind == "decode":
                    self._measure(worker, case, 0)  # warms up
        except (NotInstalledError, WorkerError) as error:
            self._skip(subject, error)
            return False
        for case in subject.cases:
            self.timings[case].facts = facts
        worker.stop()
        return True

    def _turn(self, subject: Subject, worker: Worker, number: int, *, alone: bool) -> None:
        """One measurement of each case of a worker that otherwise stands still."""
        worker.resume()
        if self.work.kind == "decode" and not alone:
            self._measure(worker, subject.cases[0], number)  # another has had the caches
        first = number % len(subject.cases)  # no case has the same place in every round
        for case in subject.cases[first:] + subject.cases[:first]:
            self.timings[case].seconds.append(self._measure(worker, case, number))
            if subject.engine == OURS and self.work.kind == "decode":
                self.timings[case].plain_reads.append(worker.ask("read"))
        worker.stop()

    def _measure(self, worker: Worker, case: Case, number: int) -> float:
        seconds: float = worker.ask("measure", key=case.name, number=number)
        return seconds

    def _ask(self, worker: Worker, do: str, case: Case) -> Any:
        return worker.ask(do, key=case.name, case=asdict(case), work=asdict(self.work))

    def _skipped(self, subject: Subject) -> bool:
        return self.timings[subject.cases[0]].skipped is not None

    def _skip(self, subject: Subject, error: Exception) -> None:
        """Go on without a peer; our own engine's failure is everybody's."""
        if subject.engine == OURS:
            raise error
        self.report(f"{subject.cases[0].name}: skipped: {error}")
        for case in subject.cases:
            timing = self.timings[case]
            timing.skipped = str(error)
            timing.seconds.clear()

    def _share_plain_reads(self) -> None:
        """A peer's speed is compared with the reads that our worker made in the same rounds."""
        ours = next((t for t in self.timings.values() if t.plain_reads), None)
        for timing in self.timings.values():
            if ours is not None and timing.case.engine != OURS:
                timing.plain_reads = ours.plain_reads
