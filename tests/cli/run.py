"""Runs the real `loopcoder` command in a process of its own."""

import os
import subprocess
import sys


def loopcoder(
    *arguments: str, stdin: str | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The finished process, its output as text."""
    return subprocess.run(
        [sys.executable, "-m", "loopcoder", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        stdin=subprocess.DEVNULL if stdin is None else None,
    )
