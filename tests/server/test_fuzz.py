"""Requests generated from the server's OpenAPI document: no 500, no stall, then still serving."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable

from tests.server.clients import MODEL, PROMPT
from tests.server.serving import serving

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

requests = pytest.importorskip("requests", reason="requests is not installed")

STALL = 30.0  # seconds, for requests of at most eight tokens
REFUSALS = frozenset({400, 404, 405, 413, 415})
# How the requests are shared out: by what there is to break, and what one costs to generate.
SHARES = {
    "/v1/completions": 0.5,
    "/v1/chat/completions": 0.15,
    "/tokenize": 0.05,
    "/detokenize": 0.2,
}


@pytest.fixture(scope="module")
def small() -> Iterator[Any]:
    """A server whose answers are short, so that what takes time is the number of requests."""
    with serving("--max-tokens", "8") as started:
        yield started


class Fuzz:
    """Sends cases over one connection and counts the answers by method and status."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.url = server.url
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.session = requests.Session()

    @property
    def sent(self) -> int:
        return self.statuses.total()

    def send(self, case: Any) -> None:
        """One request; an answer must be fine, or a refusal in OpenAI's shape."""
        if isinstance(case.body, dict) and self.sent % 8:
            # A generated name is no model's; most requests should come further than that.
            case.body["model"] = MODEL
        response = case.call(base_url=self.url, session=self.session, timeout=STALL)
        self.statuses[case.method.upper(), response.status_code] += 1
        if response.status_code == 200:
            return
        asked = f"{case.method} {case.formatted_path} {case.body!r}"
        assert response.status_code in REFUSALS, f"{response.status_code}: {asked}"
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}, asked
        assert "Traceback" not in response.text

    def check_alive(self) -> None:
        """Nothing runs on, and an ordinary request is answered."""
        self.server.idle()
        body = {"model": MODEL, "prompt": PROMPT, "max_tokens": 4}
        answer = httpx.post(f"{self.url}/v1/completions", json=body, timeout=STALL)
        assert answer.raise_for_status().json()["usage"]["completion_tokens"] == 4


def run(fuzz: Fuzz, count: int, number: int) -> None:
    """About `count` cases, half of them valid by the document and half of them not."""
    schema = schemathesis.openapi.from_url(f"{fuzz.url}/openapi.json")
    operations = {each.path: each for each in (r.ok() for r in schema.get_all_operations())}
    assert set(SHARES) <= set(operations)
    others = (1 - sum(SHARES.values())) / (len(operations) - len(SHARES))
    for path, operation in operations.items():
        cases = max(2, round(count * SHARES.get(path, others) / 2))
        for mode in schemathesis.GenerationMode:
            _run_one(fuzz, operation.as_strategy(generation_mode=mode), cases, number)


def _run_one(fuzz: Fuzz, strategy: Any, cases: int, number: int) -> None:
    @seed(number)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def send(case: Any) -> None:
        fuzz.send(case)

    with suppress(Unsatisfiable):  # a GET without parameters has no invalid form
        send()


def check(server: Any, count: int, number: int) -> int:
    """Send, see that the server is well, and say how many were sent."""
    fuzz = Fuzz(server)
    run(fuzz, count, number)
    fuzz.check_alive()
    assert fuzz.statuses["POST", 200] > 0.02 * count
    assert fuzz.statuses["POST", 400] > 0.2 * count
    return fuzz.sent


@pytest.mark.slow
def test_a_few_hundred(small: Any) -> None:
    check(small, 200, 0)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 5))
def test_ten_thousand(small: Any, number: int) -> None:
    """In four parts, so that they can run side by side."""
    assert check(small, 2_800, number) >= 2_500
