"""Counts of a session at `/metrics`, by the conventions of Prometheus.

The names, base units and suffixes follow https://prometheus.io/docs/practices/naming/. No metric
holds a score or a probability of one picture: histograms count them.
"""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import start_http_server
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from devices import BadInput, Pixels
from edge_runtime.release.address import LOOPBACK, split_address
from edge_runtime.results.delivery import Delivery, Tally
from edge_runtime.results.result import Result
from edge_runtime.results.states import State
from edge_runtime.sinks.sink_uri import SinkUri, is_host
from edge_runtime.text import program_version

SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the bins of a latency; the default budget is one of them."""
PROBABILITIES = tuple(round(0.1 * tenth, 1) for tenth in range(1, 11))
SCORES = (0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0, 4.0)
"""Upper bounds of the bins of an out-of-scope score; above 1 a picture is out of scope."""
MAX_REASONS = 32
"""Different reasons with a count of their own: each costs memory in Prometheus for ever."""
OTHER_REASON = "other"
SCRAPE_SECONDS = 10
"""Seconds that a client may be silent."""
MAX_SCRAPES = 16
"""Clients at a time; the next one is turned away."""


class Prometheus:
    """Counts results; the server of `open_prometheus` tells the counts."""

    wants_pixels, latest_only = False, False

    def __init__(self, tally: Tally, tallies: Sequence[Tally]) -> None:
        """`tallies` are those of every sink, this one's `tally` among them."""
        self.tally = tally
        registry = self.registry = CollectorRegistry()
        results = Counter("sonolite_results", "Results, by state.", ["state"], registry=registry)
        labels = Counter("sonolite_labels", "Nodules with a label.", ["label"], registry=registry)
        abstentions = Counter(
            "sonolite_abstentions",
            "Nodules without a label, by reason.",
            ["reason"],
            registry=registry,
        )
        self._latency = Histogram(
            "sonolite_latency_seconds", "Capture to result.", buckets=SECONDS, registry=registry
        )
        parts = Histogram(
            "sonolite_part_latency_seconds",
            "Parts of the latency: wait, prepare, infer.",
            ["part"],
            buckets=SECONDS,
            registry=registry,
        )
        probabilities = Histogram(
            "sonolite_probability_ratio",
            "Probability of a label in a frame, without smoothing.",
            ["label"],
            buckets=PROBABILITIES,
            registry=registry,
        )
        self._scores = Histogram(
            "sonolite_out_of_scope_score_ratio",
            "Out-of-scope score; above 1 there is no label.",
            buckets=SCORES,
            registry=registry,
        )
        states = Gauge("sonolite_state", "1 for the state of now.", ["state"], registry=registry)
        self._fallback = Gauge(
            "sonolite_fallback", "1 where no preferred backend computes.", registry=registry
        )
        self._troubles = Gauge("sonolite_troubles", "Troubles of the device.", registry=registry)
        self._last = Gauge(
            "sonolite_last_result_timestamp_seconds", "Time of the last result.", registry=registry
        )
        self._bundle = Info("sonolite_bundle", "The bundle, and the backend.", registry=registry)
        program = Info("sonolite", "The program.", registry=registry)
        program.info({"version": program_version()})
        self._current: State | None = None
        self._named: tuple[str, str] | None = None
        self._reasons: set[str] = set()
        # To look up a series by its label costs as much as the rest of a result.
        self._results = {state: results.labels(state) for state in State}
        self._states = {state: states.labels(state) for state in State}
        self._parts = {part: parts.labels(part) for part in ("wait", "prepare", "infer")}
        self._label, self._abstention = cache(labels.labels), cache(abstentions.labels)
        self._probability = cache(probabilities.labels)
        registry.register(_SinkCounts(tallies))

    def write(self, result: Result, pixels: Pixels) -> None:  # noqa: ARG002
        """Counts one result; see `Sink.write`."""
        if result.state is not self._current:
            self._current = result.state
            for state, gauge in self._states.items():
                gauge.set(state is result.state)
        self._results[result.state].inc()
        self._last.set(time.time())
        self._fallback.set(result.fallback is not None)
        self._troubles.set(len(result.health))
        if (named := (result.bundle, result.backend)) != self._named:
            self._named = named
            name, number, digest = [*result.bundle.split(" "), "", ""][:3]
            self._bundle.info(
                {"name": name, "number": number, "digest": digest, "backend": result.backend}
            )
        for nodule in result.nodules:
            if nodule.label is not None:
                self._label(nodule.label).inc()
            elif nodule.reason is not None:
                self._abstention(self._reason_label(nodule.reason)).inc()
            if result.state is State.LIVE:
                for label in nodule.thresholds:
                    self._probability(label).observe(nodule.probability[label])
                if nodule.out_of_scope_score is not None:
                    self._scores.observe(nodule.out_of_scope_score)
        if result.frame is not None:
            latency = result.latency_ms
            self._latency.observe(latency.total / 1000)
            for part, histogram in self._parts.items():
                histogram.observe(getattr(latency, part) / 1000)

    def _reason_label(self, reason: str) -> str:
        """The reason, or OTHER_REASON once there are MAX_REASONS others."""
        if reason not in self._reasons and len(self._reasons) >= MAX_REASONS:
            return OTHER_REASON
        self._reasons.add(reason)
        return reason


class _SinkCounts(Collector):
    """The counts of all sinks, read when they are asked for."""

    def __init__(self, tallies: Sequence[Tally]) -> None:
        self._tallies = tallies

    def collect(self) -> Iterable[Metric]:
        delivered = CounterMetricFamily(
            "sonolite_sink_delivered", "What each sink delivered.", labels=["sink"]
        )
        given_up = CounterMetricFamily(
            "sonolite_sink_given_up", "What each sink gave up.", labels=["sink"]
        )
        waiting = GaugeMetricFamily(
            "sonolite_sink_waiting", "What waits for each sink.", labels=["sink"]
        )
        # Two sinks of one name are one series, or a scrape would be refused.
        counts: dict[str, list[Delivery]] = {}
        for delivery in [tally.delivery() for tally in self._tallies]:
            counts.setdefault(delivery.sink, []).append(delivery)
        for name, those in counts.items():
            delivered.add_metric([name], sum(each.delivered for each in those))
            given_up.add_metric([name], sum(each.given_up for each in those))
            waiting.add_metric([name], sum(each.waiting for each in those))
        return delivered, given_up, waiting


@contextmanager
def open_prometheus(uri: SinkUri, tally: Tally, tallies: Sequence[Tally]) -> Iterator[Prometheus]:
    """A sink whose counts stand at `http://HOST:PORT/metrics`; without HOST at the loopback.

    Raises BadInput for an invalid address, and where nothing can listen there.
    """
    place, _ = uri.split(())
    host, port = split_address(place) or ("", 0)
    if not port or not is_host(host or LOOPBACK):
        raise BadInput(f"{uri}: needs HOST:PORT, such as prometheus:127.0.0.1:9108")
    sink = Prometheus(tally, tallies)
    try:
        server, thread = start_http_server(port, host or LOOPBACK, sink.registry)
    except OSError as error:
        raise BadInput(f"{uri}: cannot listen there: {error.strerror}") from error
    handler: Any = server.RequestHandlerClass
    server.RequestHandlerClass = type("Handler", (handler,), {"timeout": SCRAPE_SECONDS})
    _limit_clients(server)
    try:
        yield sink
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _limit_clients(server: Any) -> None:
    """Lets a server serve MAX_SCRAPES clients at a time, and print no error of one that goes."""
    free, serve = threading.Semaphore(MAX_SCRAPES), server.process_request_thread

    def serve_one(request: object, address: object) -> None:
        try:
            serve(request, address)
        finally:
            free.release()

    server.verify_request = lambda *_: free.acquire(blocking=False)
    server.process_request_thread = serve_one
    server.handle_error = lambda *_: None
