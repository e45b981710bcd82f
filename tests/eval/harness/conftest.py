"""One served model for all the harnesses."""

from collections.abc import Iterator

import pytest

from tests.server.serving import serving


@pytest.fixture(scope="session")
def nano() -> Iterator[str]:
    """The base URL of a server with nano."""
    with serving() as running:
        yield f"{running.url}/v1"
