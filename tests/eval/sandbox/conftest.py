"""One sandbox for all: looking for it and trying it takes longer than a run."""

from collections.abc import Iterator

import pytest

from tests.eval.sandbox.support import Lab, sandbox_or_skip


@pytest.fixture(scope="session")
def lab() -> Lab:
    return Lab(sandbox_or_skip())


@pytest.fixture
def survivor(lab: Lab) -> Iterator[Lab]:
    """The lab for an attack: whatever it was, the next run goes on as if nothing had been."""
    yield lab
    after = lab.run("import os; print('going on', os.listdir('/tmp'), os.listdir('/dev/shm'))")
    assert after.stdout == b"going on [] []\n", after
