"""As root and not: the same sandbox, made in two ways."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

_REPOSITORY = Path(__file__).parents[3]
_OTHER = 54_321  # a user of no system
_CODE = """
import asyncio, json, os
from loopcoder.eval.sandbox import bubblewrap
from loopcoder.eval.sandbox.types import Limits
sandbox = bubblewrap()
def run(code, on=sandbox, **limits):
    return on.run([sandbox.python, "-c", code], limits=Limits(**limits))
async def main():
    said = [os.getuid()]
    seen = "sorted(n for n in os.listdir('/proc') if n.isdigit())"
    done = await run(f"import os; print(os.getuid(), {seen})")
    said.append(done.stdout.decode())
    bomb = "x = []\\nwhile True: x.append(b'x' * 999_999)"
    said.append((await run(bomb, memory_bytes=96 << 20, seconds=60)).stopped)
    forks = "import os\\nwhile True:\\n try: os.fork()\\n except OSError: pass"
    said.append((await run(forks, seconds=1)).stopped)
    fill = "import time\\ntry:\\n while True: open('f', 'ab').write(bytes(1 << 20))\\n"
    fill += "except OSError: time.sleep(60)"
    said.append((await run(fill, disk_bytes=4 << 20, seconds=60)).stopped)
    async with sandbox.keep() as kept:
        await run("open('f', 'w').write('kept')", on=kept)
        said.append((await run("print(open('f').read())", on=kept)).stdout.decode())
    print(json.dumps(said))
asyncio.run(main())
"""


def _without_rights() -> list[str]:
    """A command that starts Python as a user without rights, or a skipped test."""
    if os.geteuid() != 0:
        return [sys.executable]
    drop = ["setpriv", f"--reuid={_OTHER}", f"--regid={_OTHER}", "--clear-groups", "--"]
    for python in (sys.executable, shutil.which("python3", path="/usr/bin:/usr/local/bin")):
        if python is not None:
            probe = [*drop, python, "-c", "import loopcoder.eval.sandbox"]
            if _run(probe).returncode == 0:
                return [*drop, python]
    pytest.skip("no Python here can be run by another user")


def _run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(_REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, check=False, capture_output=True, env=env, cwd="/")


@pytest.mark.parametrize("root", [True, False])
def test_the_sandbox_is_the_same(root: bool) -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    if root and os.geteuid() != 0:
        pytest.skip("we are not root")
    command = [sys.executable] if root else _without_rights()
    done = _run([*command, "-c", _CODE])
    if b"bubblewrap does not work here" in done.stderr:
        pytest.skip(done.stderr.decode().strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr.decode()
    user, *said = json.loads(done.stdout)
    assert (user == 0) == root
    assert said == ["1000 ['1', '2']\n", "memory", "time", "disk", "kept\n"]
