"""`/metrics`: Prometheus text whose counters move as the work does."""

from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.server.clients import MODEL

BODY: dict[str, Any] = {
    "model": MODEL,
    "prompt": "def metrics_of_this_test(x):\n" * 12,
    "temperature": 0,
    "max_tokens": 10,
    "ignore_eos": True,
}


def samples(url: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by name and labels."""
    response = httpx.get(f"{url}/metrics").raise_for_status()
    assert response.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def total(found: dict[Any, float], name: str, **labels: str) -> float:
    """Sum of a metric's samples that have these labels."""
    return sum(
        value
        for (each, having), value in found.items()
        if each == name and set(labels.items()) <= set(having)
    )


def ask(url: str, **fields: Any) -> Any:
    return httpx.post(f"{url}/v1/completions", json={**BODY, **fields}, timeout=60)


def moved(server: Any, before: dict[Any, float], name: str, **labels: str) -> float:
    """By how much a metric has grown once the server is idle."""
    server.idle()
    return total(samples(server.url), name, **labels) - total(before, name, **labels)


def test_counters_move_with_the_work(server: Any) -> None:
    server.idle()
    before = samples(server.url)
    usage = ask(server.url, n=2, loops=2).json()["usage"]
    server.idle()
    after = samples(server.url)

    def grown(name: str, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    assert grown("loopcoder_prompt_tokens_total") == usage["prompt_tokens"]
    assert grown("loopcoder_generation_tokens_total") == usage["completion_tokens"] == 20
    assert grown("loopcoder_finished_total", reason="length") == 2
    assert grown("loopcoder_engine_steps_total") >= 10
    assert grown("loopcoder_rows_total", loop="2") >= 18
    assert grown("loopcoder_rows_total", loop="1") >= grown("loopcoder_rows_total", loop="2")
    assert grown("loopcoder_prefill_rows_total", loop="1") > 0
    for name in ("time_to_first_token", "queue", "request"):
        assert grown(f"loopcoder_{name}_seconds_count") == 1
        assert grown(f"loopcoder_{name}_seconds_sum") >= 0
    assert grown("loopcoder_time_per_output_token_seconds_count") == 2
    first, whole = (f"loopcoder_{name}_seconds_sum" for name in ("time_to_first_token", "request"))
    assert 0 < grown(first) <= grown(whole)
    assert grown("loopcoder_responses_total", status="200") >= 1


def test_a_prompt_that_was_seen_is_a_prefix_hit(server: Any) -> None:
    ask(server.url)
    before = samples(server.url)
    ask(server.url)
    assert moved(server, before, "loopcoder_prefix_tokens_hit_total") > 16


def test_memory_and_queue_are_told(server: Any) -> None:
    ask(server.url)
    server.idle()
    found = samples(server.url)
    assert total(found, "loopcoder_sequences_running") == 0
    assert total(found, "loopcoder_sequences_outstanding") == 0
    assert total(found, "loopcoder_kv_reserved_bytes") > 0
    assert total(found, "loopcoder_kv_in_use_bytes") == 0
    assert total(found, "loopcoder_engine_resident_memory_bytes") > 1e7
    assert total(found, "process_resident_memory_bytes") > 1e7


def test_errors_are_counted_by_status(server: Any) -> None:
    before = samples(server.url)
    assert ask(server.url, temperature=-1).status_code == 400
    assert moved(server, before, "loopcoder_responses_total", status="400") == 1
    httpx.get(f"{server.url}/{'x' * 50}")
    found = samples(server.url)
    assert not any("x" * 50 in str(labels) for _, labels in found), "labels stay few"


def test_a_client_that_leaves_is_an_abort(server: Any) -> None:
    before = samples(server.url)
    body = {**BODY, "stream": True, "max_tokens": 1500}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60) as response:
        next(response.iter_lines())
    assert moved(server, before, "loopcoder_finished_total", reason="abort") == 1
    assert moved(server, before, "loopcoder_generation_tokens_total") < 1500
