"""What the system refuses is one line and status 2, also where the tests run as root."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Root ignores permissions unless it gives up the right to.
DROP = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
ROOT_WITHOUT_SETPRIV = os.geteuid() == 0 and shutil.which("setpriv") is None


@pytest.mark.skipif(ROOT_WITHOUT_SETPRIV, reason="root without setpriv may write anywhere")
@pytest.mark.parametrize(
    "command",
    [
        "info {unreadable}",
        "generate x --model {unreadable}",
        "init {locked}/new --like loopcoder-nano",
        "data build smoke_data --out {locked}/new",
    ],
)
def test_missing_permission_is_one_line(command: str, tmp_path: Path) -> None:
    unreadable, locked = tmp_path / "unreadable", tmp_path / "locked"
    bundled = Path(__file__).parents[2] / "loopcoder" / "models" / "loopcoder-nano"
    shutil.copytree(bundled, unreadable)
    (unreadable / "model.safetensors").chmod(0)
    locked.mkdir(mode=0o555)
    words = command.format(unreadable=unreadable, locked=locked).split()
    done = subprocess.run(
        [*(DROP if os.geteuid() == 0 else []), sys.executable, "-m", "loopcoder", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Permission denied" in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(locked.iterdir())
