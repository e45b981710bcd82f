"""What the sandbox adds to a run: `python -m loopcoder.eval.sandbox.overhead [repetitions]`."""

import asyncio
import statistics
import subprocess
import sys
import time

from loopcoder.eval.sandbox.bubblewrap import Bubblewrap, bubblewrap


async def overhead(sandbox: Bubblewrap, repetitions: int) -> tuple[float, float, float]:
    """Medians in milliseconds: a Python that does nothing, the same in the sandbox, the difference.

    The two take turns, and the third number is the median of each turn's difference: what else the
    machine does falls on both.
    """
    argv = [sandbox.python, "-I", "-S", "-c", "pass"]
    direct, inside = [], []
    for _ in range(repetitions):
        began = time.perf_counter()
        await asyncio.to_thread(subprocess.run, argv, check=True, stdin=subprocess.DEVNULL)
        between = time.perf_counter()
        outcome = await sandbox.run(argv)
        inside.append((time.perf_counter() - between) * 1e3)
        direct.append((between - began) * 1e3)
        assert outcome.returncode == 0, outcome
    added = [there - here for here, there in zip(direct, inside, strict=True)]
    return statistics.median(direct), statistics.median(inside), statistics.median(added)


def main() -> None:
    """Measure and print."""
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    direct, inside, added = asyncio.run(overhead(bubblewrap(), repetitions))
    print(
        f"a Python that does nothing, median of {repetitions}: {direct:.1f} ms, "
        f"in the sandbox {inside:.1f} ms; the sandbox adds {added:.1f} ms"
    )


if __name__ == "__main__":
    main()
