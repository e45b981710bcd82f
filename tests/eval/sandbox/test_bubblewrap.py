"""The sandbox as its users see it: a run, a session, a /tmp that lasts, and its refusals."""

import asyncio
import platform
import shutil
import sys
import time

import pytest

from loopcoder.errors import EvaluationError
from loopcoder.eval.sandbox import bubblewrap, cores
from loopcoder.eval.sandbox.overhead import overhead
from loopcoder.eval.sandbox.seccomp import refusals
from loopcoder.eval.sandbox.types import EndedError, Limits, Session
from tests.eval.sandbox.support import BOMB, Lab, alive, sandbox_or_skip, until_it_runs


def test_a_run(lab: Lab) -> None:
    outcome = lab.run(
        "import os, sys\n"
        "print(sys.stdin.read(), open('a/b').read(), os.environ['NAME'], os.getcwd(), sys.prefix)\n"
        "print('said', file=sys.stderr)\n"
        "sys.exit(3)",
        stdin=b"input",
        files={"a/b": b"file"},
        env={"NAME": "value"},
    )
    assert outcome.stdout.decode().split() == ["input", "file", "value", "/tmp", sys.base_prefix]
    assert (outcome.stderr, outcome.returncode, outcome.stopped) == (b"said\n", 3, None)
    assert 0 < outcome.seconds < 60


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "", "."])
def test_a_file_outside_is_refused(lab: Lab, name: str) -> None:
    with pytest.raises(ValueError, match="not below the working directory"):
        lab.run("pass", files={name: b""})


def test_a_nul_is_refused(lab: Lab) -> None:
    """It would end one option of bubblewrap and begin the next."""
    with pytest.raises(ValueError, match="NUL"):
        lab.run("pass", env={"NAME": "x\0--bind\0/\0/"})


@pytest.mark.parametrize("field", ["seconds", "memory_bytes", "processes", "output_bytes"])
def test_a_limit_of_nothing_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Limits(**{field: 0})


def test_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    with pytest.raises(EvaluationError, match=r"apt install bubblewrap.*--unsafe-local"):
        bubblewrap()


def test_a_package_that_is_not_installed() -> None:
    sandbox_or_skip()
    with pytest.raises(EvaluationError, match="pip install no-such-package"):
        bubblewrap(("no-such-package",))


def test_a_machine_whose_calls_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(EvaluationError, match="x86_64 and aarch64, not of riscv64"):
        refusals()


@pytest.mark.slow
def test_what_it_costs_is_measured_by_turns(lab: Lab) -> None:
    direct, inside, added = asyncio.run(overhead(lab.sandbox, 1))
    assert direct > 0
    assert added == pytest.approx(inside - direct)


@pytest.mark.slow
def test_where_it_does_not_work(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that refuses: what it answers is in the message, and what may be done."""
    monkeypatch.setattr(type(lab.sandbox.plan), "_inner", lambda *_: ["--ro-bind", "/none", "/x"])
    with pytest.raises(EvaluationError, match=r"/none.*apparmor_restrict_unprivileged_userns"):
        lab.sandbox.check()
    with pytest.raises(EvaluationError, match="could not be set up"):
        lab.run("pass")


@pytest.mark.slow
def test_packages_are_the_named_ones() -> None:
    here = Lab(sandbox_or_skip(("numpy",)))
    code = "import importlib.util as u\nprint([bool(u.find_spec(n)) for n in "
    outcome = here.run(f"{code} ('numpy', 'torch', 'pip', 'pytest', 'loopcoder')])")
    assert outcome.stdout == b"[True, False, False, False, False]\n"
    outcome = here.run("import numpy; print(numpy.ones((50, 50)).dot(numpy.ones(50)).sum())")
    assert outcome.stdout == b"2500.0\n", outcome


@pytest.mark.slow
def test_signals_are_negative(lab: Lab) -> None:
    for number in (6, 9, 11, 15):
        assert lab.run(f"import os; os.kill(os.getpid(), {number})").returncode == -number


@pytest.mark.slow
def test_a_missing_program_is_the_programs_failure(lab: Lab) -> None:
    outcome = asyncio.run(lab.sandbox.run(["/no/such/program"]))
    assert outcome.returncode != 0
    assert b"/no/such/program" in outcome.stderr


@pytest.mark.slow
def test_as_many_at_once_as_there_are_processors(lab: Lab) -> None:
    """More wait; each of these says when it began and ended, by a clock that all share."""
    code = "import time\na = time.monotonic()\ntime.sleep(0.3)\nprint(a, time.monotonic())"

    async def many() -> list[tuple[float, float]]:
        runs = [lab.sandbox.run([lab.sandbox.python, "-c", code]) for _ in range(2 * cores() + 1)]
        pairs = [outcome.stdout.split() for outcome in await asyncio.gather(*runs)]
        return [(float(began), float(ended)) for began, ended in pairs]

    spans = asyncio.run(many())
    most = max(sum(a <= began < b for a, b in spans) for began, _ in spans)
    assert most <= cores()


ECHO = "import sys\nfor line in sys.stdin: print(line.strip() * 2, flush=True)"


@pytest.mark.slow
def test_a_session(lab: Lab) -> None:
    async def talk() -> None:
        argv = [lab.sandbox.python, "-c", ECHO, lab.marker]
        async with lab.sandbox.session(argv) as session:
            for number in range(20):
                await session.send(b"%d" % number)
            for number in range(20):
                assert await session.receive(60) == b"%d%d" % (number, number)
            large = b"x" * 300_000  # more than a pipe holds, there and back
            await session.send(large)
            assert await session.receive(60) == large * 2
            with pytest.raises(TimeoutError):
                await session.receive(0.1)
            outcome = await session.close()
            assert outcome.returncode == -9
            with pytest.raises(EndedError):
                await session.send(b"more")
            with pytest.raises(EndedError):
                await session.receive(1)

    asyncio.run(talk())
    assert alive(lab.marker) == []


async def _listen(session: Session) -> None:
    while True:
        await session.receive(60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "limits", "stopped"),
    [
        ("print('last'); raise SystemExit(4)", {}, None),
        ("print('last', flush=True)\nwhile True: pass", {"seconds": 1.0}, "time"),
        ("print('last')\nwhile True: print('x' * 99)", {"output_bytes": 10_000}, "output"),
        ("print('last')\nprint('x' * 20_000)", {"output_bytes": 10_000}, "output"),
        (
            "print('last', flush=True)\nx = []\nwhile True: x.append(b'x' * 999_999)",
            {"memory_bytes": BOMB},
            "memory",
        ),
    ],
    ids=["exit", "time", "output", "line", "memory"],
)
def test_how_a_session_ends(
    lab: Lab, code: str, limits: dict[str, float], stopped: str | None
) -> None:
    async def talk() -> EndedError:
        argv = [lab.sandbox.python, "-c", code, lab.marker]
        all_limits = Limits(**{"seconds": 60.0, **limits})  # type: ignore[arg-type]
        async with lab.sandbox.session(argv, limits=all_limits) as session:
            assert await session.receive(60) == b"last"
            with pytest.raises(EndedError) as ended:
                await _listen(session)
            return ended.value

    ended = asyncio.run(talk())
    assert ended.outcome.stopped == stopped
    assert ended.outcome.returncode == (4 if stopped is None else -9)
    assert alive(lab.marker) == []


@pytest.mark.slow
def test_leaving_a_session_kills_it(lab: Lab) -> None:
    async def leave() -> None:
        argv = [lab.sandbox.python, "-c", "while True: pass", lab.marker]
        async with lab.sandbox.session(argv):
            assert alive(lab.marker)
            raise KeyError("the caller's own")

    with pytest.raises(KeyError):
        asyncio.run(leave())
    assert alive(lab.marker) == []


@pytest.mark.slow
def test_a_tmp_that_lasts(lab: Lab) -> None:
    async def twice() -> None:
        small = Limits(disk_bytes=2 << 20)
        async with lab.sandbox.keep(small) as kept, lab.sandbox.keep(small) as other:
            first = "import os\nopen('f', 'w').write('kept')\nif not os.fork(): os.execvp('sleep', "
            await kept.run([kept.python, "-c", first + f"['sleep', '600', '{lab.marker}'])"])
            assert alive(lab.marker) == []
            read = [kept.python, "-c", "import os; print(os.listdir('.'), open('f').read())"]
            assert (await kept.run(read)).stdout == b"['f'] kept\n"
            assert (await other.run(read)).returncode == 1
            fill = "open('g', 'wb').write(bytes(9 << 20))"
            assert b"No space left" in (await kept.run([kept.python, "-c", fill])).stderr
            assert (await lab.sandbox.run(["ls", "/tmp"])).stdout == b""

    asyncio.run(twice())


@pytest.mark.slow
def test_a_busy_event_loop_does_not_let_it_run_on(lab: Lab) -> None:
    """The limits are watched by a thread."""

    async def busy() -> tuple[bool, str | None]:
        argv = [lab.sandbox.python, "-c", "while True: pass", lab.marker]
        task = asyncio.create_task(lab.sandbox.run(argv, limits=Limits(seconds=2.0)))
        await until_it_runs(lab.marker, task)
        until = time.monotonic() + 60
        while alive(lab.marker) and time.monotonic() < until:
            time.sleep(0.1)
        return bool(alive(lab.marker)), (await task).stopped

    assert asyncio.run(busy()) == (False, "time")
