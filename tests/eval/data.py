"""Benchmark files to run against, where they are: beside the project, or where a variable says."""

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).parents[3] / "shared" / "data"
_DIRECTORY = Path(os.environ.get("LOOPCODER_TEST_DATA", str(_BESIDE)))
DATA: Path | None = _DIRECTORY if (_DIRECTORY / "HumanEvalPlus.jsonl.gz").exists() else None

needs_data = pytest.mark.skipif(
    DATA is None, reason="no benchmark files: put them in a directory, LOOPCODER_TEST_DATA names it"
)
