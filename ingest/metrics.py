"""Every collector, declared once, on a registry that is passed in.

Label values are configuration or closed lists, never data from outside, and every known label set starts at 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
)

from ingest.collectors import LoopCounter, LoopHistogram
from ingest.delivery import FailureCause
from ingest.event import Cause, EchoOutcome, Mode, Outcome, Reason

DUPLICATE_KINDS = (Outcome.REDELIVERY, Outcome.OVERLAP, Outcome.REDUNDANT, Outcome.RESEND)
WEBHOOK_CODES = ("200", "204", "401", "403", "405", "413", "415", "422", "503")
RECONNECT_CAUSES = (Cause.IDLE, Cause.CLOSED, Cause.ERROR, Cause.REFUSED, Cause.RATE_LIMITED, Cause.UNAUTHORIZED)
DELIVERY_OUTCOMES = ("delivered", "retried", "dead")
RECOVERED_FROM = ("missing", "lost")

_TRANSIT_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21600, 86400)
_ACK_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)
_COMMIT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_COMMIT_SIZE_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
_DELIVERY_BUCKETS = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 20)


class SpoolGauges(NamedTuple):
    """The gauges of this replica's spool."""

    events: Gauge
    bytes: Gauge
    oldest_seconds: Gauge


class Metrics:
    """The collectors of contract §6. Times are in seconds, sizes in events."""

    def __init__(self, registry: CollectorRegistry) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry
        source = ["source", "mode"]
        self.received = LoopCounter("headrace_events_received", "Arrivals, before decoding", source, registry=registry)
        self.stored = LoopCounter("headrace_events_stored", "New events, committed", source, registry=registry)
        self.duplicate = LoopCounter(
            "headrace_events_duplicate", "Events that were there already", [*source, "kind"], registry=registry
        )
        self.rejected = LoopCounter(
            "headrace_events_rejected", "Undecodable elements, kept", [*source, "reason"], registry=registry
        )
        self.ignored = LoopCounter("headrace_events_ignored", "Names left out on purpose", source, registry=registry)
        self.hook_echoes = LoopCounter(
            "headrace_hook_echoes", "The vendor's word on its webhooks", [*source, "outcome"], registry=registry
        )
        self.deferred = LoopCounter("headrace_events_deferred", "Not stored: send again", source, registry=registry)
        self.unidentified = LoopCounter(
            "headrace_events_unidentified",
            "Stored without time or id: copies cannot be told",
            source,
            registry=registry,
        )
        self.in_flight = Gauge("headrace_events_in_flight", "Received, not settled yet", source, registry=registry)
        self.responses = LoopCounter(
            "headrace_ingest_responses", "Webhook answers", ["source", "code"], registry=registry
        )
        self.auth_failures = Counter("headrace_auth_failures", "Bad or no credentials", ["source"], registry=registry)
        self.source_up = Gauge("headrace_source_up", "1 while the source can receive", source, registry=registry)
        self.last_event = Gauge(
            "headrace_source_last_event_timestamp_seconds", "When the last event arrived", source, registry=registry
        )
        self.last_byte = Gauge(
            "headrace_source_last_byte_timestamp_seconds", "When the last byte arrived", source, registry=registry
        )
        caused = [*source, "cause"]
        self.gaps = Counter("headrace_gaps", "Times that nothing was listening, begun", caused, registry=registry)
        self.gap_seconds = Counter(
            "headrace_gap_seconds", "How long those lasted that ended", caused, registry=registry
        )
        self.gap_open = Gauge("headrace_gap_open", "1 while nothing is listening", source, registry=registry)
        self.suspected_lost = Counter(
            "headrace_events_suspected_lost", "Gap time × the usual rate", ["source"], registry=registry
        )
        self.reconnects = Counter(
            "headrace_source_reconnects", "Connections that were begun anew", caused, registry=registry
        )
        self.ack_failures = Counter(
            "headrace_pubsub_ack_failures",
            "Acknowledgements that Google refused: these messages come again",
            ["source"],
            registry=registry,
        )
        self.oldest_unsettled = Gauge(
            "headrace_pubsub_oldest_unsettled_seconds",
            "How long the oldest message that is not settled has been here",
            ["source"],
            registry=registry,
        )
        self.transit = LoopHistogram(
            "headrace_transit_seconds", "published_at to received", source, registry=registry, buckets=_TRANSIT_BUCKETS
        )
        self.ack = LoopHistogram(
            "headrace_ack_seconds", "Received to settled", source, registry=registry, buckets=_ACK_BUCKETS
        )
        self.commit_seconds = Histogram(
            "headrace_commit_seconds", "One group commit", registry=registry, buckets=_COMMIT_BUCKETS
        )
        self.commit_events = Histogram(
            "headrace_commit_events", "Records in one group commit", registry=registry, buckets=_COMMIT_SIZE_BUCKETS
        )
        self.inbox_events = Gauge("headrace_inbox_events", "Waiting for a commit", registry=registry)
        self.store_rewinds = Counter(
            "headrace_store_rewinds", "Times that the database was put back to an older state", registry=registry
        )
        self.ready = Gauge("headrace_ready", "1 while /readyz is 200", registry=registry)
        self.store_bytes = Gauge("headrace_store_bytes", "The store on its disk", registry=registry)
        self.retention_lag = Gauge(
            "headrace_retention_lag_seconds", "How long ago the oldest event was due that is here", registry=registry
        )
        self.deliveries = LoopCounter(
            "headrace_handler_deliveries", "What became of deliveries", ["handler", "outcome"], registry=registry
        )
        self.failures = LoopCounter(
            "headrace_handler_failures", "Attempts that failed", ["handler", "cause"], registry=registry
        )
        self.delivery_seconds = LoopHistogram(
            "headrace_handler_delivery_seconds",
            "One delivery",
            ["handler"],
            registry=registry,
            buckets=_DELIVERY_BUCKETS,
        )
        self.lag_events = Gauge("headrace_handler_lag_events", "Committed, not passed", ["handler"], registry=registry)
        self.lag_seconds = Gauge(
            "headrace_handler_lag_seconds", "Age of the oldest of them", ["handler"], registry=registry
        )
        self.dead_letters = Gauge("headrace_handler_dead_letters", "Dead letters kept", ["handler"], registry=registry)
        self.circuit_open = Gauge(
            "headrace_handler_circuit_open", "1 while nothing but a probe is tried", ["handler"], registry=registry
        )
        self.paused = Gauge("headrace_handler_paused", "1 until somebody resumes it", ["handler"], registry=registry)
        self.skipped = LoopCounter(
            "headrace_handler_skipped",
            "Events that retention took before a paused handler had them",
            ["handler"],
            registry=registry,
        )
        self._declare_balance(registry)
        self.build_info = Info("headrace_build", "The version that runs", registry=registry)

    def _declare_balance(self, registry: CollectorRegistry) -> None:
        """Declare what is told of losses, and of the store's own sums."""
        self.missing = Gauge(
            "headrace_events_missing", "Sequence numbers not seen (yet)", ["source"], registry=registry
        )
        self.lost = Counter(
            "headrace_events_lost", "Sequence numbers that did not come in time", ["source"], registry=registry
        )
        self.recovered = Counter(
            "headrace_events_recovered", "Sequence numbers that came after all", ["source", "from"], registry=registry
        )
        self.ambiguous = Counter(
            "headrace_events_ambiguous",
            "Sequence numbers that fit no run for certain",
            ["source"],
            registry=registry,
        )
        self.silent_devices = Gauge(
            "headrace_silent_devices", "Devices quiet for longer than silent_after", ["source"], registry=registry
        )
        self.source_silent = Gauge(
            "headrace_source_silent", "1 while it is quiet for much longer than it was", ["source"], registry=registry
        )
        self.auditor_lag = Gauge(
            "headrace_auditor_lag_events", "Committed, their sequence numbers not followed yet", registry=registry
        )
        self.balance_difference = Gauge(
            "headrace_balance_difference_events", "What the hourly light verify cannot account for", registry=registry
        )
        self.seen_by = Counter(
            "headrace_seen_by", "Events by the ways that brought them in time", ["source", "modes"], registry=registry
        )
        self.missed_by = Counter(
            "headrace_missed_by",
            "Events that another way brought, and this one did not in time",
            ["source", "way"],
            registry=registry,
        )

    @cached_property
    def free_bytes(self) -> Gauge:
        """What only a store in a file has: 0 elsewhere would be a full disk."""
        return Gauge("headrace_store_free_bytes", "Left on the disk of the store's file", registry=self.registry)

    @cached_property
    def spool(self) -> SpoolGauges:
        """What only a server with a spool has."""
        return SpoolGauges(
            Gauge("headrace_spool_events", "Records waiting in this replica's spool", registry=self.registry),
            Gauge("headrace_spool_bytes", "Bytes that they take", registry=self.registry),
            Gauge("headrace_spool_oldest_seconds", "How long the oldest of them has waited", registry=self.registry),
        )

    @cached_property
    def certificate_expires(self) -> Gauge:
        """What only a server with a certificate has."""
        return Gauge(
            "headrace_certificate_expires_timestamp_seconds", "When our certificate expires", registry=self.registry
        )

    def declare_source(self, source: str, mode: str) -> None:
        """Start every label set of a source at 0. Timestamps stay absent until first seen."""
        labels = (source, mode)
        for counter in (self.received, self.stored, self.ignored, self.deferred, self.unidentified):
            counter.labels(*labels)
        for kind in DUPLICATE_KINDS:
            self.duplicate.labels(*labels, kind)
        for reason in Reason:
            self.rejected.labels(*labels, reason)
        for outcome in EchoOutcome:
            self.hook_echoes.labels(*labels, outcome)
        for gauge in (self.in_flight, self.source_up):
            gauge.labels(*labels)
        for histogram in (self.transit, self.ack):
            histogram.labels(*labels)

    def declare_stream(self, source: str, mode: str) -> None:
        """Start the label sets that only streams have at 0."""
        for cause in RECONNECT_CAUSES:
            self.reconnects.labels(source, mode, cause)

    def declare_webhook(self, source: str) -> None:
        """Start the label sets that only webhooks have at 0."""
        self.auth_failures.labels(source)
        for code in WEBHOOK_CODES:
            self.responses.labels(source, code)

    def declare_coverage(self, source: str, mode: Mode) -> None:
        """Start the label sets of gaps at 0."""
        self.suspected_lost.labels(source)
        self.gap_open.labels(source, mode)
        for cause in Cause:
            self.gaps.labels(source, mode, cause.value)
            self.gap_seconds.labels(source, mode, cause.value)

    def declare_sequence(self, source: str) -> None:
        """Start the label sets of sequence numbers at 0."""
        self.missing.labels(source)
        for counter in (self.lost, self.ambiguous):
            counter.labels(source)
        for before in RECOVERED_FROM:
            self.recovered.labels(source, before)

    def declare_ways(self, source: str, modes: Iterable[str], ways: Iterable[str]) -> None:
        """Start the label sets of a source whose events come several ways at 0."""
        for names in modes:
            self.seen_by.labels(source, names)
        for way in ways:
            self.missed_by.labels(source, way)

    def declare_silence(self, source: str) -> None:
        """Start the label sets of silences at 0."""
        for gauge in (self.silent_devices, self.source_silent):
            gauge.labels(source)

    def declare_handlers(self, handlers: Iterable[str]) -> None:
        """Start every label set of the handlers at 0."""
        for handler in handlers:
            for outcome in DELIVERY_OUTCOMES:
                self.deliveries.labels(handler, outcome)
            for cause in FailureCause:
                self.failures.labels(handler, cause)
            self.delivery_seconds.labels(handler)
            self.skipped.labels(handler)
            for gauge in (self.lag_events, self.lag_seconds, self.dead_letters, self.circuit_open, self.paused):
                gauge.labels(handler)

    def counts(self, source: str, mode: str) -> dict[str, int]:
        """Return what this process counted for a source: received, stored, duplicate and so on.

        Kinds and reasons are summed up.
        """
        labels = (source, mode)
        counts = {
            "received": self.received.labels(*labels).value,
            "stored": self.stored.labels(*labels).value,
            "duplicate": sum(self.duplicate.labels(*labels, kind).value for kind in DUPLICATE_KINDS),
            "rejected": sum(self.rejected.labels(*labels, reason).value for reason in Reason),
            "ignored": self.ignored.labels(*labels).value,
            "deferred": self.deferred.labels(*labels).value,
            "in_flight": _value(self.in_flight.labels(*labels)),
        }
        return {name: int(count) for name, count in counts.items()}


def _value(gauge: Gauge) -> float:
    """Return what a label set shows now, without a look at the others."""
    ((sample,),) = (family.samples for family in gauge.collect())
    return sample.value
