"""Numbers for Prometheus. Labels are routes, methods, statuses and kinds of jobs: words of the program, nobody's."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30, 60)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Monitoring:
    """registry: others add their own numbers to it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "cbmir_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "cbmir_request_seconds",
            "From the head of a request to the end of its response.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.under_way = Gauge("cbmir_requests_under_way", "Requests being answered.", registry=self.registry)
        self.refused = Counter("cbmir_refused", "Requests refused before a route.", ("why",), registry=self.registry)
        self.jobs = Counter("cbmir_jobs", "Jobs that have ended.", ("kind", "state"), registry=self.registry)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """route: its template, never the path that was asked for."""
        method = method if method in METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self.registry)
