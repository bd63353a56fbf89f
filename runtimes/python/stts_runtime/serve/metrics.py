"""What a server tells of itself to Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from stts_runtime.serve.job import Usage


SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Metrics:
    """The counts, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self._requests = Counter(
            "stts_requests", "requests by route and status", ["route", "status"], registry=registry
        )
        self._tokens = Counter("stts_tokens", "tokens by kind", ["kind"], registry=registry)
        self._stages = Histogram("stts_stage_seconds", "time of a stage", ["stage"], buckets=SECONDS, registry=registry)
        self._memory = Counter("stts_cache", "asked for, by cache and result", ["cache", "result"], registry=registry)

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Tell a value that is read whenever it is asked for."""
        Gauge(f"stts_{name}", text, registry=self._registry).set_function(value)

    def request(self, route: str, status: int) -> None:
        """A request was answered."""
        self._requests.labels(route, str(status)).inc()

    def hit(self, cache: str, found: bool) -> None:
        """See `job.Meter`."""
        self._memory.labels(cache, "hit" if found else "miss").inc()

    def answered(self, usage: Usage) -> None:
        """See `job.Meter`."""
        counts = {
            "prompt": usage.prompt_tokens - usage.cached_tokens,
            "answer": usage.answer_tokens,
            "vision": usage.kept_groups,
            "vision_pruned": usage.groups - usage.kept_groups,
        }
        for kind, count in counts.items():
            self._tokens.labels(kind).inc(count)
        for stage, milliseconds in usage.milliseconds.items():
            self._stages.labels(stage).observe(milliseconds / 1e3)

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self._registry)
