"""A grammar that takes minutes to compile is refused, and nobody else waits for it."""

import threading
import time
from typing import Any

import httpx
import pytest

from tests.server.clients import MODEL, PROMPT

# llguidance works on it for minutes, and none of its limits stops that.
BOMB = {"json": {"type": "integer", "multipleOf": 9999991}}


def _ask(url: str, **fields: Any) -> httpx.Response:
    body = {"model": MODEL, "prompt": PROMPT, "max_tokens": 4, **fields}
    return httpx.post(f"{url}/v1/completions", json=body, timeout=120)


@pytest.mark.slow
def test_a_grammar_of_minutes_is_refused_and_others_go_on(server: Any) -> None:
    refused: list[httpx.Response] = []
    thread = threading.Thread(
        target=lambda: refused.append(_ask(server.url, structured_outputs=BOMB))
    )
    thread.start()
    time.sleep(0.2)  # it has been taken in
    served = 0
    while thread.is_alive():
        assert _ask(server.url).status_code == 200
        served += 1
    assert served > 1
    assert refused[0].status_code == 400
    assert "processor time" in refused[0].json()["error"]["message"]
    # The verdict is remembered, and good grammars still pass.
    assert _ask(server.url, structured_outputs=BOMB).status_code == 400
    done = _ask(server.url, structured_outputs={"choice": ["yes", "no"]})
    assert done.json()["choices"][0]["text"] in ("yes", "no")
