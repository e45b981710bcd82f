"""One browser for the tests of the page, closed before others run loops of their own."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import chromium
from tests.server.page.visits import Visit
from tests.server.serving import Served


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def visit(browser: Any, server: Served) -> Iterator[Any]:
    """Opens tabs on the common server; each is checked at the end."""
    opened: list[Visit] = []

    def open_page(width: int = 1280, **options: Any) -> Visit:
        opened.append(Visit(browser, server.url, width=width, **options))
        return opened[-1]

    yield open_page
    for each in opened:
        each.close()
