"""Several jobs at a time, each in a process of its own; signals, progress and the end time."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from transformers.utils.logging import disable_progress_bar

from loopcoder.errors import LoopCoderError, TrainingError
from loopcoder.study.measure import measure_model
from loopcoder.study.recipe import Depth, Evaluate
from loopcoder.study.show import Board
from loopcoder.study.work import Job, train_model

_TICK_S = 2.0
_AT_WORK = threading.Lock()  # of this process: held while it does a job


def do_job(job: Job, evaluate: Evaluate, depth: Depth | None) -> dict[str, Any] | None:
    """Train and measure one model; its summary, or None if a signal stopped it."""
    with _AT_WORK:
        summary = train_model(job)
        if summary is not None and job.records is not None:
            measure_model(job, summary, evaluate, depth)
        return summary


@dataclass(kw_only=True)
class Done:
    """Summaries by the jobs' names, errors of those that failed, and whether a signal came."""

    summaries: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, LoopCoderError] = field(default_factory=dict)
    stopped: bool = False


def run_jobs(
    jobs: Sequence[Job], evaluate: Evaluate, depth: Depth | None, *, processes: int, board: Board
) -> Done:
    """Do all `jobs`, `processes` at a time, in their order.

    A job that fails does not stop the others. After SIGINT or SIGTERM the ones that run save a
    checkpoint and no other begins. Raises `TrainingError` if a process dies.
    """
    done, waiting = Done(), list(reversed(jobs))
    running: dict[Future[dict[str, Any] | None], Job] = {}
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(processes, mp_context=context, initializer=_begin) as pool,
        _listening(done, board),
    ):
        while running or (waiting and not done.stopped):
            while waiting and len(running) < processes and not done.stopped:
                job = waiting.pop()
                board.begins(job)
                running[pool.submit(do_job, job, evaluate, depth)] = job
            finished, _ = wait(running, timeout=_TICK_S, return_when=FIRST_COMPLETED)
            for future in finished:
                _settle(future, running.pop(future), done, board)
            board.tick()
    return done


def _settle(future: Future[dict[str, Any] | None], job: Job, done: Done, board: Board) -> None:
    try:
        summary = future.result()
    except LoopCoderError as error:
        done.failed[job.cell.name] = error
        board.failed(job, error)
    except BrokenProcessPool as error:
        raise TrainingError(
            f"{job.cell.name}: its process died, perhaps for want of memory; run the same command "
            "again to go on, with a smaller --jobs"
        ) from error
    else:
        if summary is not None:
            done.summaries[job.cell.name] = summary
            board.ends(job, summary)


def _begin() -> None:
    """In a new process: signals come from the study alone, and none outlives it."""
    disable_progress_bar()  # transformers', of loading weights
    os.setpgid(0, 0)  # the terminal's Ctrl-C goes to the study
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # training listens while it runs
    parent = multiprocessing.parent_process()
    assert parent is not None, "this runs in a child"

    def follow() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGINT)
        with _AT_WORK:
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def _listening(done: Done, board: Board) -> Iterator[None]:
    """Pass signals on to the processes; a second one acts as usual, at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets only the main thread handle signals
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: object) -> None:
        done.stopped = True
        signal.signal(number, before[signal.Signals(number)])
        board.say("stopping: models save a checkpoint; once more to stop at once")
        for child in multiprocessing.active_children():
            if child.pid is not None:
                os.kill(child.pid, signal.SIGINT)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    except KeyboardInterrupt:  # the second one
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
