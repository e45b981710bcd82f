"""Where LoopCoder keeps what it fetches and compiles. Nothing else is written outside `--out`."""

import os
from pathlib import Path


def cache_home() -> Path:
    """`LOOPCODER_HOME`, or ~/.cache/loopcoder if it is not set."""
    return Path(os.environ.get("LOOPCODER_HOME") or "~/.cache/loopcoder").expanduser()
