"""What `/metrics` says: the front's own times, and the engine's counters as it last told them."""

import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from loopcoder.engine.sequence import Request
from loopcoder.server.messages import Token

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SLOW = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

# Engine counter, metric name, help.
_COUNTERS = (
    ("prompt_tokens", "prompt_tokens", "Prompt tokens taken in."),
    ("generated_tokens", "generation_tokens", "Tokens written."),
    ("steps", "engine_steps", "Forward passes."),
    ("preemptions", "preemptions", "Sequences that gave up their memory and began again."),
    ("prefix_tokens_asked", "prefix_tokens_asked", "Prompt tokens looked up in the prefix cache."),
    ("prefix_tokens_hit", "prefix_tokens_hit", "Prompt tokens found in the prefix cache."),
    ("step_seconds", "engine_step_seconds", "Time in engine steps."),
    ("model_seconds", "engine_model_seconds", "Time in layers and head."),
)
_GAUGES = (
    ("running", "sequences_running", "Sequences that hold a slot."),
    ("waiting", "sequences_waiting", "Sequences that the engine has queued."),
    ("kv_bytes_reserved", "kv_reserved_bytes", "Memory for keys and values."),
    ("kv_bytes_in_use", "kv_in_use_bytes", "Of it, held by running sequences."),
    ("kv_bytes_cached", "kv_cached_bytes", "Of it, finished prompts kept for reuse."),
    ("engine_rss_bytes", "engine_resident_memory_bytes", "Memory of the engine process."),
)
_BY_LOOP = (
    ("rows", "rows", "Rows, (token, loop) pairs, run through the layers."),
    ("prefill_rows", "prefill_rows", "Of them, rows of prompts."),
)


class Metrics:
    """A registry of its own, so that several servers may live in one process."""

    def __init__(self, stats: Callable[[], dict[str, Any]], queue: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(_EngineCollector(stats, queue))
        self.first_token = self._histogram(
            "time_to_first_token_seconds", "From a request's arrival to its first token.", _SLOW
        )
        self.per_token = self._histogram(
            "time_per_output_token_seconds", "Between a sequence's tokens, its mean.", _FAST
        )
        self.waited = self._histogram(
            "queue_seconds", "From a request's arrival at the engine to its start.", _SLOW
        )
        self.whole = self._histogram("request_seconds", "A request from end to end.", _SLOW)
        self.finished = Counter(
            "loopcoder_finished",
            "Sequences that ended, by reason (abort: the client left, or the server stopped).",
            ["reason"],
            registry=self.registry,
        )
        self.responses = Counter(
            "loopcoder_responses",
            "HTTP responses by route and status.",
            ["route", "status"],
            registry=self.registry,
        )

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"loopcoder_{name}", text, buckets=buckets, registry=self.registry)

    def watch(self, requests: Sequence[Request]) -> "Watch":
        """Times one HTTP request's sequences while in its `with` block."""
        return Watch(self, sum(request.params.n for request in requests))


class Watch:
    """The times of one HTTP request."""

    def __init__(self, metrics: Metrics, sequences: int) -> None:
        self._metrics = metrics
        self._left = sequences
        self._begun = time.monotonic()
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}  # first token's time, count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._metrics.whole.observe(time.monotonic() - self._begun)
        if self._left:
            self._metrics.finished.labels("abort").inc(self._left)

    def see(self, tokens: Sequence[Token]) -> None:
        """Note tokens that have just come."""
        now = time.monotonic()
        if not self._seen:
            self._metrics.first_token.observe(now - self._begun)
        for token in tokens:
            key = (token.request_id, token.number)
            first, count = self._seen.get(key, (now, 0))
            self._seen[key] = (first, count + 1)
            if token.finish_reason is not None:
                self._left -= 1
                self._metrics.finished.labels(token.finish_reason).inc()
                if count:
                    self._metrics.per_token.observe((now - first) / count)
            if token.end is not None and token.end.admitted is not None:
                self._metrics.waited.observe(token.end.admitted - token.end.arrived)


class _EngineCollector(Collector):
    """The engine's counters since its start; absent until it has said something."""

    def __init__(self, stats: Callable[[], dict[str, Any]], queue: Callable[[], int]) -> None:
        self._stats = stats
        self._queue = queue

    def collect(self) -> Iterator[Metric]:
        """All families."""
        stats = self._stats()
        text = "Sequences accepted and not finished, running or waiting."
        yield GaugeMetricFamily("loopcoder_sequences_outstanding", text, value=self._queue())
        for key, name, text in _COUNTERS:
            if key in stats:
                yield CounterMetricFamily(f"loopcoder_{name}", text, value=stats[key])
        for key, name, text in _GAUGES:
            if stats.get(key) is not None:
                yield GaugeMetricFamily(f"loopcoder_{name}", text, value=stats[key])
        for key, name, text in _BY_LOOP:
            family = CounterMetricFamily(f"loopcoder_{name}", text, labels=["loop"])
            for loop, rows in stats.get(key, {}).items():
                family.add_metric([str(loop)], rows)
            yield family
