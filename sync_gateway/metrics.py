"""What an operator watches. No label names anybody, and none is taken from what a stranger sends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE"))
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass(frozen=True)
class Reading:
    """A number that is kept elsewhere and read when somebody asks: a total that only grows, or a present state."""

    name: str
    help: str
    read: Callable[[], float | dict[str, float]]
    total: bool = False
    label: str = ""


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "passbook_gateway_requests",
            "Requests by route, method and status; what is on no route is `other`.",
            ("route", "method", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "passbook_gateway_request_seconds",
            "Time until the whole answer was out, by route; live feeds aside.",
            ("route",),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._refusals = Counter(
            "passbook_gateway_refusals",
            "Requests answered with an error, by the rule that was reached or the answer's code.",
            ("rule",),
            registry=self._registry,
        )
        self._sent = Counter(
            "passbook_gateway_sent_bytes", "Bytes sent to devices, bodies and headers.", registry=self._registry
        )

    def request(self, route: str | None, method: str, status: int, seconds: float | None) -> None:
        """Count a request; `seconds` is None for a live feed."""
        self._requests.labels(route or "other", method if method in METHODS else "other", status).inc()
        if seconds is not None:
            self._seconds.labels(route or "other").observe(seconds)

    def refused(self, rule: str) -> None:
        """Count a refusal."""
        self._refusals.labels(rule).inc()

    def sent(self, count: int) -> None:
        """Count bytes that went to a device."""
        self._sent.inc(count)

    def show(self, *readings: Reading) -> None:
        """Show these numbers too."""
        self._registry.register(_Readings(readings))

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)


class _Readings(Collector):
    def __init__(self, readings: Iterable[Reading]) -> None:
        self._readings = tuple(readings)

    def collect(self) -> Iterable[Metric]:
        for reading in self._readings:
            family = CounterMetricFamily if reading.total else GaugeMetricFamily
            labels = [reading.label] if reading.label else []
            metric = family(f"passbook_gateway_{reading.name}", reading.help, labels=labels)
            value = reading.read()
            for label, number in value.items() if isinstance(value, dict) else [("", value)]:
                metric.add_metric([label] if labels else [], number)
            yield metric
