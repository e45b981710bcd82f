"""The page in a real browser: nothing fetched, nothing wider than the screen, keys and themes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import chromium
from tests.report.pages import PAGES, named
from tests.report.rows import CODE


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


class Visit:
    """A page that is open, and what the browser complained of or asked for."""

    def __init__(self, browser: Any, folder: Path, name: str, **options: Any) -> None:
        file = folder / f"{name}.html"
        if not file.exists():
            file.write_text(named(name), encoding="utf-8")
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.tab = browser.new_page(**options)
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.goto(file.as_uri())

    def run(self, script: str) -> Any:
        return self.tab.evaluate(script)

    def panel(self) -> str:
        text: str = self.tab.locator(".panel-of-token").first.inner_text()
        return text


@pytest.fixture
def visit(browser: Any, folder: Path) -> Iterator[Any]:
    opened: list[Visit] = []

    def open_page(name: str, width: int = 1280, **options: Any) -> Visit:
        viewport = {"width": width, "height": 900}
        opened.append(Visit(browser, folder, name, viewport=viewport, **options))
        return opened[-1]

    yield open_page
    for each in opened:
        each.tab.close()


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_it_fits_and_is_silent(visit: Any, name: str, width: int) -> None:
    seen = visit(name, width)
    assert seen.run("document.documentElement.scrollWidth") == width
    seen.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert seen.run("document.documentElement.scrollWidth") == width
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith(("file:", "data:"))] == []
    assert len(seen.requests) == 1 + sum(url.startswith("data:") for url in seen.requests)


def test_letters_of_figures_can_be_read_on_a_phone(visit: Any) -> None:
    seen = visit("r4", 400)
    sizes = seen.run(
        "[...document.querySelectorAll('figure svg text')].map(t => t.getBoundingClientRect())"
        ".map(b => Math.min(b.width, b.height)).filter(s => s > 0)"
    )
    heights = sorted(sizes)
    assert heights[len(heights) // 2] > 9  # of a line, in pixels; narrow letters are narrower
    cut = seen.run(
        "[...document.querySelectorAll('figure svg text')].filter(t => {"
        " const a = t.getBoundingClientRect(), b = t.closest('svg').getBoundingClientRect();"
        " return a.left < b.left - 2 || a.right > b.right + 2 }).map(t => t.textContent)"
    )
    assert cut == []


def test_keys_move_between_tokens_and_the_panel_follows(visit: Any) -> None:
    seen = visit("r4")
    first = seen.tab.locator("[role=option]").first
    first.focus()
    seen.tab.keyboard.press("Home")
    assert "nothing stands before it" in seen.panel()
    places = []
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowUp", "ArrowLeft", "End"):
        seen.tab.keyboard.press(key)
        chosen = seen.run(
            "[...document.querySelectorAll('[role=option]')].indexOf(document.activeElement)"
        )
        selected = seen.run(
            "[...document.querySelectorAll('[role=option]')]"
            ".findIndex(o => o.getAttribute('aria-selected') === 'true')"
        )
        assert chosen == selected
        places.append(chosen)
        assert seen.panel().count("probability") == 4
        assert "Loop 4" in seen.panel()
    assert places[:2] == [1, 2]
    assert places[2] >= CODE.index("\n") // 3  # on the next line
    assert places[3] < places[2]
    assert places[4] == places[3] - 1
    assert places[5] == seen.run("document.querySelectorAll('[role=option]').length") - 1
    said = seen.tab.locator(".said").first.inner_text()
    assert "loop 4: rank" in said
    assert seen.complaints == []


def test_pointing_shows_and_a_click_holds(visit: Any) -> None:
    seen = visit("r2")
    options = seen.tab.locator("[role=option]")
    options.nth(3).hover()
    shown = seen.panel()
    options.nth(5).hover()
    assert seen.panel() != shown
    options.nth(5).click()
    held = seen.panel()
    options.nth(2).hover()
    assert seen.panel() == held


def test_the_tint_is_of_the_loop_that_is_chosen(visit: Any) -> None:
    seen = visit("r4")

    def tints() -> list[str]:
        found: list[str] = seen.run(
            "[...document.querySelectorAll('[role=option]')].map(o => getComputedStyle(o)"
            ".backgroundColor)"
        )
        return found

    before = tints()
    assert len(set(before)) > 5
    seen.tab.get_by_role("button", name="loop 3").click()
    assert tints() != before
    assert seen.run("document.querySelector('[data-loop=\"3\"]').ariaPressed") == "true"
    seen.tab.get_by_role("button", name="loop 2").click()
    assert tints() == before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_can_be_switched(visit: Any, scheme: str) -> None:
    seen = visit("r2", color_scheme=scheme)

    def is_dark() -> bool:
        colour = seen.run("getComputedStyle(document.body).backgroundColor")
        dark: bool = sum(int(part) for part in colour[4:-1].split(",")) < 380
        return dark

    axis = "getComputedStyle(document.querySelector('figure svg text')).fill"
    assert is_dark() == (scheme == "dark")
    before = seen.run(axis)
    seen.tab.locator("#theme").click()
    assert is_dark() == (scheme == "light")
    assert seen.run(axis) != before


def test_it_reads_without_scripts(visit: Any) -> None:
    seen = visit("r2", java_script_enabled=False)
    assert seen.tab.locator("#theme").is_hidden()
    assert seen.tab.locator(".panel-of-token").first.is_hidden()
    seen.tab.locator(".passage summary").first.click()
    assert seen.tab.locator(".passage table").first.is_visible()


def test_print_clips_nothing_and_is_light(visit: Any) -> None:
    seen = visit("r4", 800, color_scheme="dark")
    seen.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    seen.tab.emulate_media(media="print")
    assert seen.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    clipped = seen.run(
        "[...document.querySelectorAll('.scroll, .code')].filter(e => e.scrollHeight >"
        " e.clientHeight + 2 || e.scrollWidth > e.clientWidth + 2).length"
    )
    assert clipped == 0
    assert seen.tab.locator(".panel-of-token").first.is_hidden()
    assert seen.tab.locator("nav").is_hidden()
