"""Many clients at once, some of which leave, read slowly, or come when the server is about to end.

None of these tests can fail because a machine is slow: they ask what happened, and in which order.
"""

import asyncio
import json
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import httpx
import pytest

from tests.server.serving import Served, serving

pytestmark = pytest.mark.slow

MODEL = "loopcoder-nano"
PATH = "/v1/completions"
NO_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)
PATIENCE = httpx.Timeout(300)


def ask(tokens: int, *, seed: int = 0, prompt: int = 24, **fields: Any) -> dict[str, Any]:
    """A request for exactly `tokens` tokens after a prompt that nobody else has."""
    random = Random(f"load {seed}")
    ids = [random.randrange(10, 8000) for _ in range(prompt)]
    settled = {"model": MODEL, "prompt": ids, "max_tokens": tokens, "ignore_eos": True}
    return {**settled, "temperature": 0, **fields}


def stream(tokens: int, **fields: Any) -> dict[str, Any]:
    """The same as a stream, with its usage."""
    return ask(tokens, stream=True, stream_options={"include_usage": True}, **fields)


def with_client(url: str, work: Callable[[httpx.AsyncClient], Coroutine[Any, Any, Any]]) -> Any:
    """Run `work` with one client of the server."""

    async def run() -> Any:
        async with httpx.AsyncClient(base_url=url, limits=NO_LIMITS, timeout=PATIENCE) as client:
            return await work(client)

    return asyncio.run(run())


async def whole(client: httpx.AsyncClient, body: dict[str, Any]) -> str:
    """Ask without a stream; "ok", or what is wrong."""
    response = await client.post(PATH, json=body)
    if response.status_code != 200:
        return f"status {response.status_code}"
    return verdict(response.json()["usage"], body)


async def streamed(client: httpx.AsyncClient, body: dict[str, Any], stop_after: int = 0) -> str:
    """Ask for a stream and read it to its end, or leave after so many events ("cut")."""
    async with client.stream("POST", PATH, json=body) as response:
        if response.status_code != 200:
            return f"status {response.status_code}"
        events = []
        async for line in response.aiter_lines():
            if line:
                events.append(line.removeprefix("data: "))
            if stop_after and len(events) == stop_after:
                return "cut"
    if events[-1] != "[DONE]":
        return f"ended with {events[-1][:200]}"
    return verdict(json.loads(events[-2])["usage"], body)


def verdict(usage: dict[str, Any], body: dict[str, Any]) -> str:
    counts = usage["prompt_tokens"], usage["completion_tokens"]
    return "ok" if counts == (len(body["prompt"]), body["max_tokens"]) else f"counted {counts}"


async def churn(client: httpx.AsyncClient, numbers: range, clients: int) -> Counter[str]:
    """The requests of these numbers by so many clients: streams, whole answers, a tenth cut off."""
    waiting = iter(numbers)
    found: Counter[str] = Counter()

    async def one() -> None:
        for number in waiting:
            if number % 10 == 0:
                body = stream(64, seed=number)
                found[await streamed(client, body, stop_after=1 + number // 10 % 5)] += 1
            elif number % 2:
                found[await streamed(client, stream(8, seed=number))] += 1
            else:
                found[await whole(client, ask(8, seed=number))] += 1

    await asyncio.gather(*(one() for _ in range(clients)))
    return found


def settled(server: Served) -> dict[str, Any]:
    """Counters of an idle server, which holds nothing for anybody."""
    stats = server.idle()
    held = {name: stats[name] for name in ("running", "waiting", "outstanding", "kv_bytes_in_use")}
    assert not any(held.values()), held
    return stats


def until(server: Served, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The counters once `true` of them."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        stats = server.stats()
        if true(stats):
            return stats
        time.sleep(0.01)
    raise AssertionError(f"it never came to that: {stats}")


@pytest.mark.slow
def test_memory_is_flat_whoever_comes_and_goes() -> None:
    """64 clients, 2,000 requests after as many to warm up, a tenth cut off mid-stream."""
    memory = ("--kv-cache-memory-bytes", str(16 * 2**20))  # so little that warming up fills it
    with serving("--max-num-seqs", "16", "--max-model-len", "256", *memory) as server:
        warm = with_client(server.url, lambda client: churn(client, range(2000), 64))
        before = settled(server)
        found = with_client(server.url, lambda client: churn(client, range(2000, 4000), 64))
        after = settled(server)
    assert warm == found == {"ok": 1800, "cut": 200}
    for process in ("front_rss_bytes", "engine_rss_bytes"):
        assert after[process] <= 1.02 * before[process], process
    # What was cut off stopped early: of 64 tokens each, few were written.
    assert after["generated_tokens"] - before["generated_tokens"] < 1800 * 8 + 200 * 64


def test_a_crowd_that_comes_and_goes_leaves_nothing_behind(server: Served) -> None:
    """The same for a short while, each time the suite runs."""
    found = with_client(server.url, lambda client: churn(client, range(5000, 5100), 24))
    assert found == {"ok": 90, "cut": 10}
    settled(server)


def test_more_than_the_queue_holds_is_told_and_the_rest_is_served() -> None:
    """40 at once where 2 run and 6 wait. Who waits as told gets an answer in the end."""

    async def insist(client: httpx.AsyncClient, number: int) -> int:
        body, refusals = ask(16, seed=number), 0
        while (response := await client.post(PATH, json=body)).status_code == 429:
            refusals += 1
            seconds = int(response.headers["retry-after"])
            assert 1 <= seconds <= 60
            await asyncio.sleep(0.05 * seconds)
        assert response.status_code == 200, response.text
        assert response.json()["usage"]["completion_tokens"] == 16
        return refusals

    async def crowd(client: httpx.AsyncClient) -> list[int]:
        return await asyncio.gather(*(insist(client, number) for number in range(40)))

    with serving("--max-num-seqs", "2", "--max-queue", "6") as server:
        assert sum(with_client(server.url, crowd)) > 0
        settled(server)


def deaf(server: Served, body: dict[str, Any]) -> socket.socket:
    """A client that has sent its request and reads nothing; it can take little unread."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    url = httpx.URL(server.url)
    connection.connect((url.host, url.port))
    payload = json.dumps(body).encode()
    connection.sendall(
        f"POST {PATH} HTTP/1.1\r\nHost: {url.host}:{url.port}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n".encode()
        + payload
    )
    return connection


def read_all(connection: socket.socket) -> bytes:
    connection.settimeout(120)
    pieces = []
    while piece := connection.recv(2**20):
        pieces.append(piece)
    return b"".join(pieces)


def unread(tokens: int, seed: int) -> dict[str, Any]:
    """A stream of 5 kB a token: what the system keeps of it for a deaf client is soon full."""
    return stream(tokens, loop_lens=20, loops=4, seed=seed)


@pytest.mark.slow
def test_who_does_not_read_stalls_nobody(server: Served) -> None:
    """Two streams of megabytes that nobody reads: others are served, then they are whole."""
    began = server.stats()["generated_tokens"]
    sleepers = [deaf(server, unread(1000, seed)) for seed in range(2)]
    try:
        until(server, lambda stats: stats["generated_tokens"] > began + 2)
        others = with_client(server.url, lambda client: churn(client, range(6001, 6010), 4))
        assert others == {"ok": 9}
        # All tokens are written although none has been read.
        until(server, lambda stats: stats["running"] == stats["waiting"] == 0)
        answers = [read_all(connection) for connection in sleepers]
    finally:
        for connection in sleepers:
            connection.close()
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"data: [DONE]" in answer[-40:]
        assert answer.count(b'"finish_reason":null') == 999
        assert len(answer) > 4 * 2**20
    settled(server)


@pytest.mark.slow
def test_what_nobody_reads_takes_no_place_in_the_queue() -> None:
    """One place, held by an answer that is written but not read: it is free for the next."""
    limits = ("--max-num-seqs", "1", "--max-queue", "0", "--drain-timeout", "1")
    with serving(*limits) as server:
        sleeper = deaf(server, unread(1000, 0))
        until(server, lambda stats: stats.get("generated_tokens") == 1000)
        try:
            response = httpx.post(f"{server.url}{PATH}", json=ask(2), timeout=60)
            assert response.status_code == 200
        finally:
            sleeper.close()
        settled(server)


def test_who_leaves_without_reading_is_forgotten(server: Served) -> None:
    connections = [deaf(server, unread(1000, n)) for n in range(3)]
    until(server, lambda stats: stats["outstanding"] == 3)
    for connection in connections:
        connection.close()
    settled(server)


@pytest.mark.parametrize("streaming", [True, False])
def test_work_for_a_client_that_is_gone_stops_within_steps(server: Served, streaming: bool) -> None:
    """1,900 tokens were asked for; the client leaves at the first, or before any comes."""
    before = settled(server)
    connection = deaf(server, ask(1900, stream=streaming, seed=streaming))
    running = until(server, lambda stats: stats["running"] == 1)
    connection.close()
    after = settled(server)
    assert after["steps"] - before["steps"] < 1900
    assert after["generated_tokens"] - before["generated_tokens"] < 1900
    assert after["steps"] >= running["steps"]


async def begin(client: httpx.AsyncClient, body: dict[str, Any]) -> tuple[httpx.Response, Any]:
    """A stream whose first event has come, and the rest of its lines."""
    response = await client.send(client.build_request("POST", PATH, json=body), stream=True)
    lines = response.aiter_lines()
    assert (await anext(lines)).startswith("data: ")
    return response, lines


async def rest(response: httpx.Response, lines: Any) -> list[str]:
    """All events from now on."""
    found = [line.removeprefix("data: ") async for line in lines if line]
    await response.aclose()
    return found


def stopping(
    server: Served, tokens: int, streams: int, waiting: int = 0
) -> tuple[list[list[str]], list[httpx.Response], float]:
    """What running streams and waiting requests are told after SIGTERM, and seconds to the end.

    Whoever comes after the signal is told 503 while they run.
    """

    async def work(
        client: httpx.AsyncClient,
    ) -> tuple[list[list[str]], list[httpx.Response], float]:
        opened = [await begin(client, stream(tokens, seed=n)) for n in range(streams)]
        queued = [
            asyncio.create_task(client.post(PATH, json=stream(tokens, seed=streams + n)))
            for n in range(waiting)
        ]
        while (await client.get("/stats")).json()["outstanding"] < streams + waiting:
            await asyncio.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        told = time.monotonic()
        while (late := await client.post(PATH, json=ask(1))).status_code == 200:
            pass  # it was there before the signal
        assert late.status_code == 503
        assert late.json()["error"]["code"] == "shutting_down"
        ends = await asyncio.gather(*(rest(*each) for each in opened))
        refused = await asyncio.gather(*queued)
        await asyncio.to_thread(server.process.wait, 60)
        return ends, refused, time.monotonic() - told

    found = with_client(server.url, work)
    assert server.process.returncode == 0
    return found  # type: ignore[no-any-return]


@pytest.mark.slow
def test_streams_finish_after_the_signal_to_stop() -> None:
    """Enough time to drain: every stream is whole."""
    with serving("--max-num-seqs", "8", "--drain-timeout", "60") as server:
        ends, _, _ = stopping(server, 300, 8)
    for events in ends:
        assert events[-1] == "[DONE]"
        assert json.loads(events[-2])["usage"]["completion_tokens"] == 300
        assert json.loads(events[-3])["choices"][0]["finish_reason"] == "length"


@pytest.mark.slow
def test_who_cannot_finish_is_told() -> None:
    """A fifth of a second to drain seconds of work: error events, 503 for those that waited."""
    with serving("--max-num-seqs", "4", "--drain-timeout", "0.2") as server:
        ends, refused, seconds = stopping(server, 1900, 4, waiting=3)
    for events in ends:
        assert events[-1] == "[DONE]"
        assert json.loads(events[-2])["error"]["code"] == "shutting_down"
    assert [response.status_code for response in refused] == [503] * 3
    assert seconds < 30  # the figure is drain time + 1 s; `loopcoder bench serve` measures it
