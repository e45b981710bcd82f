"""What a hostile program eats or leaves: the run ends, nothing is left, the next one works.

`survivor` runs an ordinary program after each; `Lab.run` finds no process of the attack alive.
"""

import textwrap

import pytest

from loopcoder.eval.sandbox.types import Limits
from tests.eval.sandbox.support import BOMB, Lab, refused, tries

pytestmark = pytest.mark.slow

SHORT = Limits(seconds=1.0)
TIGHT = Limits(seconds=60.0, memory_bytes=BOMB)  # a slow machine needs the time to fill it


# ---- eating the machine


def test_fork_bomb(survivor: Lab) -> None:
    code = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    assert survivor.run(code, limits=SHORT).stopped == "time"


def test_processes_are_counted(survivor: Lab) -> None:
    code = """
    import os, time
    n = 0
    try:
        while n < 1000:
            if os.fork() == 0:
                time.sleep(60)
            n += 1
    except BlockingIOError:
        pass
    print(n)
    """
    outcome = survivor.run(textwrap.dedent(code), limits=Limits(processes=16))
    assert 1 <= int(outcome.stdout) < 16


def test_threads_count_as_processes(survivor: Lab) -> None:
    code = """
    import threading, time
    n = 0
    try:
        while n < 1000:
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            n += 1
    except RuntimeError:
        pass
    print(n, flush=True)
    """
    outcome = survivor.run(textwrap.dedent(code), limits=Limits(processes=16, seconds=5))
    assert 1 <= int(outcome.stdout) < 16


def test_memory_of_one_process(survivor: Lab) -> None:
    code = "x = []\nwhile True: x.append(b'x' * (1 << 20))"
    assert survivor.run(code, limits=TIGHT).stopped == "memory"


def test_memory_of_many_processes_together(survivor: Lab) -> None:
    """Each holds a third of the limit: none is above it."""
    code = f"""
    import os, time
    for _ in range(8):
        if os.fork() == 0:
            x = b'x' * {BOMB // 3}
            time.sleep(60)
    time.sleep(60)
    """
    assert survivor.run(textwrap.dedent(code), limits=TIGHT).stopped == "memory"


def test_memory_that_processes_share_counts_once(survivor: Lab) -> None:
    code = f"""
    import os, time
    x = b'x' * {BOMB // 3}
    for _ in range(8):
        if os.fork() == 0:
            time.sleep(1)
            os._exit(0)
    for _ in range(8):
        os.wait()
    """
    outcome = survivor.run(textwrap.dedent(code), limits=TIGHT)
    assert (outcome.returncode, outcome.stopped) == (0, None), outcome


def test_one_allocation_above_the_address_space_fails_at_once(survivor: Lab) -> None:
    assert b"MemoryError" in survivor.run("bytearray(1 << 40)").stderr


@pytest.mark.parametrize("directory", ["/tmp", "/dev/shm"])
def test_memory_behind_files(survivor: Lab, directory: str) -> None:
    code = f"""
    import time
    n = 0
    try:
        while True:
            n += open('{directory}/' + str(n), 'wb').write(bytes(1 << 20))
    except OSError:
        print(n, flush=True)
        time.sleep(60)
    """
    outcome = survivor.run(textwrap.dedent(code), limits=Limits(disk_bytes=8 << 20, seconds=60))
    assert outcome.stopped == "disk"
    assert not outcome.stdout or int(outcome.stdout) <= 8 << 20


def test_memory_behind_names_of_files(survivor: Lab) -> None:
    """A file without a byte costs the kernel memory too."""
    code = "n = 0\nwhile True:\n    open('/tmp/' + str(n), 'w').close()\n    n += 1"
    limits = Limits(disk_bytes=8 << 20, seconds=60)
    assert survivor.run(code, limits=limits).stopped == "disk"


def test_deep_directories(survivor: Lab) -> None:
    code = "import os\nwhile True:\n    os.mkdir('d' * 200)\n    os.chdir('d' * 200)"
    limits = Limits(disk_bytes=8 << 20, seconds=60)
    assert survivor.run(code, limits=limits).stopped == "disk"


def test_one_large_file(survivor: Lab) -> None:
    code = "f = open('/tmp/f', 'wb', buffering=0)\nwhile True: f.write(bytes(1 << 16))"
    outcome = survivor.run(code, limits=Limits(file_bytes=1 << 20))
    assert b"File too large" in outcome.stderr


def test_a_file_above_the_limit_kills_a_program_that_does_not_ask(survivor: Lab) -> None:
    code = "import os; os.execv('/bin/sh', ['sh', '-c', 'exec cat /dev/zero > f'])"
    outcome = survivor.run(code, limits=Limits(file_bytes=1 << 20))
    assert outcome.returncode != 0
    assert not outcome.stdout


@pytest.mark.parametrize(
    "code",
    [
        "os.memfd_create('x')",
        "assert libc.shmget(0, 1 << 20, 0o1600) >= 0, os.strerror(ctypes.get_errno())",
        "assert libc.msgget(0, 0o1600) >= 0, os.strerror(ctypes.get_errno())",
        "assert libc.semget(0, 1000, 0o1600) >= 0, os.strerror(ctypes.get_errno())",
    ],
    ids=["memfd", "segment", "queue", "semaphore"],
)
def test_memory_that_belongs_to_no_process(survivor: Lab, code: str) -> None:
    setup = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    outcome = survivor.run(setup + tries(code, expected=Exception))
    assert refused(outcome), outcome
    assert b"not permitted" in outcome.stdout


def test_endless_loop(survivor: Lab) -> None:
    outcome = survivor.run("while True: pass", limits=SHORT)
    assert (outcome.stopped, outcome.returncode) == ("time", -9)
    assert outcome.seconds >= 1.0


def test_signals_ignored(survivor: Lab) -> None:
    code = """
    import signal, time
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    while True: time.sleep(1)
    """
    assert survivor.run(textwrap.dedent(code), limits=SHORT).stopped == "time"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_endless_output(survivor: Lab, stream: str) -> None:
    code = f"import sys\nwhile True: sys.{stream}.write('x' * 10000)"
    outcome = survivor.run(code, limits=Limits(output_bytes=100_000, seconds=60))
    assert outcome.stopped == "output"
    assert len(outcome.stdout) + len(outcome.stderr) == 100_000


def test_huge_arguments(survivor: Lab) -> None:
    code = "import os; os.execv('/bin/true', ['true'] + ['x' * 100_000] * 100)"
    outcome = survivor.run(code, limits=Limits(seconds=60))
    assert outcome.returncode != 0
    assert b"too long" in outcome.stderr, outcome


# ---- leaving something behind


@pytest.mark.parametrize("ignoring", [False, True])
def test_daemons(survivor: Lab, ignoring: bool) -> None:
    """A double fork into a session of its own, with no file of ours open; the parent ends well."""
    code = f"""
    import os, signal, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            if {ignoring}:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
            os.closerange(0, 100)
            while True: time.sleep(1)
        os._exit(0)
    os.wait()
    """
    outcome = survivor.run(textwrap.dedent(code))
    assert (outcome.returncode, outcome.stopped) == (0, None)
    assert outcome.seconds < 5


def test_a_daemon_that_holds_the_output(survivor: Lab) -> None:
    code = "import os, time\nif os.fork() == 0: time.sleep(600)\nprint('first', flush=True)"
    outcome = survivor.run(code)
    assert (outcome.returncode, outcome.stdout) == (0, b"first\n")
    assert outcome.seconds < 5
