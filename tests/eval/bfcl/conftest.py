"""bfcl-eval's environment: the one that is set up, else made (12 seconds, 44 MB)."""

from pathlib import Path

import pytest

from loopcoder.errors import EvaluationError
from loopcoder.eval.bfcl import VERSIONS


@pytest.fixture(scope="session")
def python() -> Path:
    try:
        return VERSIONS["v4"].setup()
    except EvaluationError as error:
        pytest.skip(f"bfcl-eval's environment cannot be made here: {error}")
