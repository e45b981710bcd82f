"""One server for the tests that need nothing special of it."""

from collections.abc import Iterator

import pytest

from tests.server.serving import Served, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Served]:
    """nano, with the default limits."""
    with serving() as running:
        yield running
