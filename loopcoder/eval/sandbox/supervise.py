"""One thread a run: it starts the program, reads what it says, holds it to its limits, ends it.

A thread and not a task: an event loop that is busy for a second must not leave a program that eats
memory alone for a second.
"""

import json
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from loopcoder.errors import EvaluationError
from loopcoder.eval.sandbox.relay import enter
from loopcoder.eval.sandbox.types import Limits, Outcome, Stopped
from loopcoder.eval.sandbox.usage import Usage

LOOK_SECONDS = 0.02  # between two looks at memory and disk
SETUP_SECONDS = 60.0  # longer than any machine needs; a program has not started before
_CHUNK = 1 << 16
# Before the program, inside: it says that all is set up, and if we are dead by then (before that
# nothing ends a half-made sandbox) it is ended by saying it.
GUARD = ("/bin/sh", "-c", 'echo && exec "$@"', "sh")


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What to start. Its file descriptors are passed on and closed here when it runs.

    `info` and `release` are bubblewrap's --info-fd and --block-fd, our ends of them; then the first
    byte it writes is the `GUARD`'s. Where there is none, the program is started as it is and its
    process group is what gets killed. `stdin` is None for a pipe to talk through. `namespace`: the
    mounts to start it in; `lasting`: whether its /tmp is older than it is.
    """

    argv: list[str]
    env: dict[str, str]
    directory: str = "/"
    descriptors: list[int] = field(default_factory=list)
    stdin: int | None = None
    info: int | None = None
    release: int | None = None
    namespace: int | None = None
    lasting: bool = False


class Supervisor:
    """Runs one `Launch` to its end. `run` is for a thread of its own; the rest for any other.

    `changed` is called, in that thread, whenever there is more output and at the end.
    """

    def __init__(self, launch: Launch, limits: Limits, changed: Callable[[], None]) -> None:
        self._launch, self._limits, self._changed = launch, limits, changed
        self._lock = threading.Lock()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._readers: dict[int, Callable[[int], None]] = {}
        given = (launch.info, launch.release)
        self._ours = {self._wake, *(end for end in given if end is not None)}
        self._out, self._err, self._inbox = bytearray(), bytearray(), bytearray()
        self._stdin = -1
        self._told = bytearray()
        self._process: subprocess.Popen[bytes] | None = None
        self._inside = -1  # a pidfd of the process whose end is the end of all
        self._usage: Usage | None = None
        self._began = time.monotonic()
        self._next_look = 0.0
        self._over = self._wanted_dead = False
        self._stopped: Stopped | None = None
        self.pid = -1
        self.started = threading.Event()
        self.outcome: Outcome | None = None
        self.failure: BaseException | None = None

    # ---- for other threads

    def write(self, data: bytes) -> None:
        """Hand bytes to its standard input."""
        with self._lock:
            self._inbox += data
            self._ring()

    def take_line(self) -> bytes | None:
        """The next whole line it wrote, or None."""
        with self._lock:
            end = self._out.find(b"\n")
            if end < 0:
                return None
            line = bytes(self._out[:end])
            del self._out[: end + 1]
            return line

    def stop(self) -> None:
        """Have it killed. `outcome` is there when `run` has returned."""
        with self._lock:
            self._wanted_dead = True
            self._ring()

    def _ring(self) -> None:
        if not self._over:
            os.eventfd_write(self._wake, 1)

    # ---- the thread

    def run(self) -> None:
        """Start it and see it to its end; nothing of it is alive afterwards."""
        try:
            self.outcome = self._supervise()
        except BaseException as error:
            self.failure = error
        finally:
            with self._lock:
                self._over = True
                self._close()
            self.started.set()
            self._changed()

    def _supervise(self) -> Outcome:
        out, err = self._start()
        process = self._process
        assert process is not None
        exited = os.pidfd_open(process.pid)
        try:
            self._read(out, self._hear)
            self._read(err, self._hear_error)
            self._read(self._wake, self._answer)
            self._poll.register(exited, select.POLLIN)
            while not self._turn(exited):
                pass
            self._end_all(process)
        finally:
            self._kill()
            process.kill()
            process.wait()
            os.close(exited)
        return self._conclude(process.returncode)

    def _start(self) -> tuple[int, int]:
        launch = self._launch
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
        ours = [read for read, _ in pipes]
        stdin = launch.stdin
        if stdin is None:
            stdin, self._stdin = os.pipe2(os.O_CLOEXEC)
            ours.append(self._stdin)
        self._ours.update(ours)
        theirs = [*launch.descriptors, stdin, *(write for _, write in pipes)]
        try:
            if launch.namespace is not None:
                enter(launch.namespace)
            self._process = subprocess.Popen(
                launch.argv,
                stdin=stdin,
                stdout=pipes[0][1],
                stderr=pipes[1][1],
                cwd=launch.directory,
                env=launch.env,
                pass_fds=launch.descriptors,
                start_new_session=True,
            )
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        for descriptor in ours:
            os.set_blocking(descriptor, False)
        if launch.info is None:
            self._enter(self._process.pid)
        else:
            self._read(launch.info, self._hear_info)
        return ours[0], ours[1]

    def _read(self, descriptor: int, reader: Callable[[int], None]) -> None:
        self._readers[descriptor] = reader
        self._poll.register(descriptor, select.POLLIN)

    def _turn(self, exited: int) -> bool:
        """Wait for something to do and do it; True when the program is gone."""
        for descriptor, _ in self._poll.poll(LOOK_SECONDS * 1e3):
            if descriptor == exited:
                return True
            if descriptor == self._stdin:
                self._say()
            elif descriptor in self._readers:
                self._readers[descriptor](descriptor)
        self._check()
        if self._stopped or self._wanted_dead:
            self._kill()
        return False

    def _check(self) -> None:
        spent = time.monotonic() - self._began
        if not self.started.is_set():
            if spent > SETUP_SECONDS:
                raise EvaluationError(f"the sandbox was not set up in {SETUP_SECONDS:.0f} s")
        elif spent > self._limits.seconds:
            self._stop_for("time")
        elif self._usage is not None and not self._stopped and spent > self._next_look:
            self._next_look = spent + LOOK_SECONDS
            if self._usage.memory_above(self._limits.memory_bytes):
                self._stop_for("memory")
            elif self._usage.disk_full():
                self._stop_for("disk")

    def _stop_for(self, limit: Stopped) -> None:
        self._stopped = self._stopped or limit

    # ---- what it says

    def _hear(self, descriptor: int) -> None:
        self._take(descriptor, self._out)
        self._changed()

    def _hear_error(self, descriptor: int) -> None:
        self._take(descriptor, self._err)

    def _take(self, descriptor: int, into: bytearray) -> None:
        with suppress(BlockingIOError):
            data = os.read(descriptor, _CHUNK)
            if into is self._out and data and not self.started.is_set():
                self._begin()
                data = data[1:]  # the first byte is the guard's
                if not data:
                    return
            with self._lock:
                into += data
                room = self._limits.output_bytes - len(self._out) - len(self._err)
                if room < 0:
                    del into[len(into) + room :]
                    self._stop_for("output")
            if not data or room < 0:  # what a program above its limit says is not read any more
                self._forget(descriptor)

    def _forget(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        del self._readers[descriptor]
        self._ours.remove(descriptor)
        os.close(descriptor)

    def _hear_info(self, descriptor: int) -> None:
        data = os.read(descriptor, _CHUNK)
        self._told += data
        if not data:
            self._forget(descriptor)
            if self._told:  # else it could not make a process; what it says of that comes too
                with suppress(ProcessLookupError, BrokenPipeError):  # it died as soon as it was
                    self._enter(json.loads(self._told)["child-pid"])

    def _answer(self, descriptor: int) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(descriptor)
        if self._stdin >= 0:
            self._say()

    def _say(self) -> None:
        with self._lock:
            try:
                del self._inbox[: os.write(self._stdin, self._inbox)]
            except BlockingIOError:
                pass
            except BrokenPipeError:  # nobody reads it; its end, if it has ended, comes by itself
                self._inbox.clear()
            waiting = bool(self._inbox)
        if waiting:
            self._poll.register(self._stdin, select.POLLOUT)
        else:
            with suppress(KeyError):
                self._poll.unregister(self._stdin)

    # ---- its beginning and its end

    def _enter(self, pid: int) -> None:
        """The first process of the program is there and waits: look at it, then let it go on."""
        self.pid = pid
        self._inside = os.pidfd_open(pid)
        self._ours.add(self._inside)
        if self._launch.release is not None:
            self._usage = Usage(pid, lasting=self._launch.lasting)
            os.write(self._launch.release, b"\n")
        else:
            self._begin()

    def _begin(self) -> None:
        self._began = time.monotonic()
        self.started.set()
        self._changed()

    def _kill(self) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            if self._launch.info is None and self._process.returncode is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            elif self._inside >= 0:
                signal.pidfd_send_signal(self._inside, signal.SIGKILL)

    def _end_all(self, process: subprocess.Popen[bytes]) -> None:
        """The program is gone: so must be what it left behind, and what it said is read."""
        self._seconds = time.monotonic() - self._began
        while self._launch.info in self._readers:
            self._hear_info(self._launch.info)
        self._kill()
        if self._inside >= 0:
            _ready(self._inside, None)
            if self._usage is not None:  # its first process is ours to bury if we are the init
                with suppress(ChildProcessError):
                    os.waitid(os.P_PIDFD, self._inside, os.WEXITED | os.WNOHANG)
        for descriptor, reader in list(self._readers.items()):
            if descriptor != self._wake:
                while descriptor in self._readers and _ready(descriptor, 0):
                    reader(descriptor)

    def _conclude(self, status: int) -> Outcome:
        bwrap = self._launch.info is not None
        if not self.started.is_set() and not self._wanted_dead:
            said = self._err.decode(errors="replace").strip().splitlines()[-1:]
            raise EvaluationError(f"the sandbox could not be set up: {' '.join(said) or status}")
        if bwrap and status > 128 and status - 128 in set(signal.Signals):
            status = 128 - status
        if status == -signal.SIGXFSZ:
            self._stop_for("disk")
        elif self._stopped:
            status = -signal.SIGKILL
        return Outcome(
            returncode=status,
            stdout=bytes(self._out),
            stderr=bytes(self._err),
            seconds=self._seconds,
            stopped=self._stopped,
        )

    def _close(self) -> None:
        if self._usage is not None:
            self._usage.close()
        for descriptor in self._ours:
            os.close(descriptor)


def _ready(descriptor: int, milliseconds: int | None) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(milliseconds))
