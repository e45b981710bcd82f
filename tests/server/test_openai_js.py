"""The official `openai` JavaScript client; js/client.mjs calls, this reads what it found."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.server.clients import MODEL, npm

SCRIPT = Path(__file__).parent / "js" / "client.mjs"
OPENAI = "openai@7.57.0"


@pytest.fixture(scope="module")
def found(server: Any) -> dict[str, Any]:
    """What each check of the script found, by its name."""
    done = subprocess.run(
        ["node", str(SCRIPT), server.url, str(npm(OPENAI))],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout)
    failed = {name: each["failed"] for name, each in results.items() if "failed" in each}
    assert not failed
    return results


def test_models(found: dict[str, Any]) -> None:
    assert found["models"] == {"listed": [MODEL], "one": MODEL}


def test_streams_add_up(found: dict[str, Any]) -> None:
    completion = found["completion"]
    assert completion["text"] == completion["whole"] != ""
    assert completion["usage"] == completion["expected"]
    assert found["chat"]["text"] == found["chat"]["whole"] != ""
    assert found["chat"]["pieces"] > 5
    assert found["helper"]["text"] == found["helper"]["final"] == found["chat"]["whole"]


def test_logprobs(found: dict[str, Any]) -> None:
    assert found["logprobs"]["text"] == found["logprobs"]["content"]
    assert found["logprobs"]["tops"] == 2


def test_structure_and_tools(found: dict[str, Any]) -> None:
    assert 0 <= found["schema"]["n"] <= 99
    assert len(found["tools"]["asked"]) == 1
    assert found["tools"]["asked"][0] in ("Oslo", "Rome")


def test_loops_and_their_lens(found: dict[str, Any]) -> None:
    one, two = found["loops"]
    assert one["text"] != two["text"]
    assert (one["loops"], two["loops"]) == (1, 2)
    assert min(one["tokens"], two["tokens"]) > 0


def test_errors_are_the_clients_own(found: dict[str, Any]) -> None:
    errors = found["errors"]
    for name in ("bad", "unknown", "stream"):
        assert errors[name][:2] == ["BadRequestError", 400]
        assert errors[name][3] == "invalid_request_error"
    assert errors["model"][:3] == ["NotFoundError", 404, "model_not_found"]


def test_leaving_a_stream_stops_its_work(found: dict[str, Any], server: Any) -> None:
    assert found["abort"] == {"chunks": 3}
    server.idle(10)
