"""What an operator watches: requests, and a counter for every outcome. No label names anybody."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from passbook.listening import Listener


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "passbook_auth_requests",
            "Requests by route, method and status.",
            ("route", "method", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "passbook_auth_request_seconds",
            "Time to answer, by route.",
            ("route",),
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
            registry=self._registry,
        )
        self._outcomes = Counter(
            "passbook_auth_outcomes",
            "What came of what was asked: sign_in, refresh, device, access.",
            ("what", "audience", "outcome"),
            registry=self._registry,
        )
        self.hashing = Gauge("passbook_auth_hashing", "Passwords being hashed now.", registry=self._registry)
        self.hashing_waiting = Gauge(
            "passbook_auth_hashing_waiting", "Passwords that wait to be hashed.", registry=self._registry
        )

        self._connections = Gauge("passbook_auth_connections", "Connections.", registry=self._registry)
        self._dropped = Gauge(
            "passbook_auth_connections_dropped",
            "Connections that were closed or not taken because there was nothing to answer, by reason.",
            ("reason",),
            registry=self._registry,
        )
        self._listener: Listener | None = None

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request. A method that is none is counted as `other`: strangers invent them."""
        known = method if method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS") else "other"
        self._requests.labels(route, known, status).inc()
        self._seconds.labels(route).observe(seconds)

    def outcome(self, what: str, outcome: str, audience: str = "") -> None:
        """Count an outcome."""
        self._outcomes.labels(what, audience, outcome).inc()

    def watch(self, listener: Listener) -> None:
        """Show how many connections there are, and how many were closed or not taken."""
        self._listener = listener

    def text(self) -> bytes:
        """In Prometheus's text format."""
        if self._listener is not None:
            self._connections.set(self._listener.connections)
            for reason, count in self._listener.dropped.items():
                self._dropped.labels(reason).set(count)
        return generate_latest(self._registry)
