"""The page when the server refuses, stops or is gone: one clear sentence, and nothing is lost."""

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.server.page.visits import PROMPT, Visit
from tests.server.serving import Served, serving

pytestmark = pytest.mark.slow

KEY = "a-key-of-the-test"
LONG = {"model": "loopcoder-nano", "prompt": PROMPT, "max_tokens": 2000, "ignore_eos": True}


@pytest.fixture(scope="module")
def strict() -> Iterator[Served]:
    """One sequence at a time, none waiting, and a key."""
    with serving("--api-key", KEY, "--max-num-seqs", "1", "--max-queue", "0") as server:
        yield server


@pytest.fixture
def guarded(browser: Any, strict: Served) -> Iterator[Visit]:
    seen = Visit(browser, strict.url)
    seen.refused = {401}
    yield seen
    seen.close()


def error(seen: Visit) -> str:
    """What the alert says, once it does."""
    alert = seen.tab.get_by_role("alert")
    alert.wait_for()
    text: str = alert.inner_text()
    return text


def give_key(seen: Visit, key: str) -> None:
    seen.get("#key").fill(key)
    seen.press("Tab")


def test_a_key_is_asked_for_and_stays_in_the_tab(guarded: Visit) -> None:
    guarded.get("#key").wait_for()
    assert error(guarded) == "The server asks for an API key."
    give_key(guarded, "wrong")
    guarded.get("#error", has_text="does not know this API key").wait_for()
    give_key(guarded, KEY)
    guarded.answer(max_tokens=6)
    assert len(guarded.tokens()) == 6
    assert guarded.get("#error").is_hidden()
    assert guarded.run("Object.values(sessionStorage)").count(KEY) == 1
    elsewhere = "[...Object.values(localStorage), location.href, document.cookie].join()"
    assert KEY not in guarded.run(elsewhere)
    guarded.tab.reload()
    guarded.ready()


def test_a_full_server_is_said_and_the_last_answer_stays(guarded: Visit, strict: Served) -> None:
    guarded.get("#key").wait_for()
    give_key(guarded, KEY)
    guarded.answer(max_tokens=6)
    before = guarded.tokens()
    guarded.refused.add(429)
    headers = {"Authorization": f"Bearer {KEY}"}
    url = f"{strict.url}/v1/completions"
    with httpx.stream("POST", url, json={**LONG, "stream": True}, headers=headers) as other:
        lines = other.iter_lines()  # kept, as its end would end the stream
        next(lines)
        guarded.get("#generate").click()
        said = error(guarded)
    assert said.startswith("The server has as many requests as it takes; try again in ")
    assert guarded.tokens() == before
    assert guarded.get("#prompt").input_value() == PROMPT
    assert guarded.get("#generate").is_enabled()


def test_a_refusal_is_told_in_the_servers_words(guarded: Visit) -> None:
    guarded.get("#key").wait_for()
    give_key(guarded, KEY)
    guarded.refused.update({400, 413})
    guarded.answer(prompt="word " * 4000)
    assert error(guarded).startswith("The server refused: ")
    assert "the prompt has 4001" in error(guarded)
    guarded.get("#loops").fill("99")
    guarded.get("#generate").click()
    assert guarded.get("#loops:invalid").count() == 1  # the form itself holds this one back
    assert len(guarded.bodies) == 1


@pytest.mark.slow
def test_shutting_down_and_gone(browser: Any) -> None:
    """SIGTERM while an answer runs: it goes on, a new one is refused; then the server dies."""
    with serving() as server:
        one, two = Visit(browser, server.url), Visit(browser, server.url).ready()
        one.ask(max_tokens=2000)
        one.option(5).wait_for(state="attached")
        server.process.send_signal(signal.SIGTERM)
        two.refused = {503, 0}
        one.refused = {503, 0}
        two.answer()
        assert error(two) == "The server is shutting down and takes no new requests."
        killer = threading.Thread(target=os.kill, args=(server.process.pid, signal.SIGKILL))
        killer.start()
        one.done()
        assert error(one) == "The connection was lost. What has arrived is kept."
        assert "broken off" in one.get(".measures").inner_text()
        kept = one.tokens()
        assert len(kept) > 5
        killer.join()
        one.get("#generate").click()
        one.get("#error", has_text="cannot be reached").wait_for()
        assert one.tokens() == kept
        assert one.get("#prompt").input_value() == PROMPT
        one.close()
        two.close()
