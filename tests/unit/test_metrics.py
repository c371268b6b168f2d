"""The collectors as a scraper sees them: names, label sets at zero, nothing from outside in a label."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from ingest.collectors import LoopCounter, LoopHistogram
from ingest.event import Cause, Reason
from ingest.metrics import RECONNECT_CAUSES, WEBHOOK_CODES, Metrics
from ingest.sources.webhook.answers import ANSWERS

SOURCE = {"source", "mode"}
# Contract §6, as far as it exists.
NAMES: dict[str, tuple[str, set[str]]] = {
    "headrace_events_received": ("counter", SOURCE),
    "headrace_events_stored": ("counter", SOURCE),
    "headrace_events_duplicate": ("counter", SOURCE | {"kind"}),
    "headrace_events_rejected": ("counter", SOURCE | {"reason"}),
    "headrace_events_ignored": ("counter", SOURCE),
    "headrace_events_deferred": ("counter", SOURCE),
    "headrace_events_in_flight": ("gauge", SOURCE),
    "headrace_ingest_responses": ("counter", {"source", "code"}),
    "headrace_auth_failures": ("counter", {"source"}),
    "headrace_source_up": ("gauge", SOURCE),
    "headrace_gaps": ("counter", SOURCE | {"cause"}),
    "headrace_gap_seconds": ("counter", SOURCE | {"cause"}),
    "headrace_gap_open": ("gauge", SOURCE),
    "headrace_events_suspected_lost": ("counter", {"source"}),
    "headrace_silent_devices": ("gauge", {"source"}),
    "headrace_source_silent": ("gauge", {"source"}),
    "headrace_source_reconnects": ("counter", SOURCE | {"cause"}),
    "headrace_transit_seconds": ("histogram", SOURCE),
    "headrace_ack_seconds": ("histogram", SOURCE),
    "headrace_commit_seconds": ("histogram", set()),
    "headrace_commit_events": ("histogram", set()),
    "headrace_inbox_events": ("gauge", set()),
    "headrace_ready": ("gauge", set()),
    "headrace_store_bytes": ("gauge", set()),
    "headrace_retention_lag_seconds": ("gauge", set()),
    "headrace_handler_deliveries": ("counter", {"handler", "outcome"}),
    "headrace_handler_delivery_seconds": ("histogram", {"handler"}),
    "headrace_handler_lag_events": ("gauge", {"handler"}),
    "headrace_handler_lag_seconds": ("gauge", {"handler"}),
    "headrace_handler_dead_letters": ("gauge", {"handler"}),
}
ABSENT_UNTIL_SEEN = ("headrace_source_last_event_timestamp_seconds", "headrace_source_last_byte_timestamp_seconds")


@pytest.fixture
def metrics() -> Metrics:
    """Of a process with one webhook source and one handler, before anything happened."""
    metrics = Metrics(CollectorRegistry())
    metrics.declare_source("fleet", "webhook")
    metrics.declare_webhook("fleet")
    metrics.declare_coverage("fleet", "webhook")
    metrics.declare_coverage("fleet", "sse")
    metrics.declare_stream("fleet", "sse")
    metrics.declare_silence("fleet")
    metrics.declare_handlers(["alerts"])
    return metrics


def scraped(metrics: Metrics) -> dict[str, Metric]:
    """What a scraper reads."""
    text = openmetrics(metrics.registry).decode()  # type: ignore[no-untyped-call]
    return {family.name: family for family in text_string_to_metric_families(text)}  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_the_contract_is_there_at_zero(name: str, metrics: Metrics) -> None:
    """Dashboards find every name with its type and labels from the start, with the known label sets at 0."""
    kind, labels = NAMES[name]
    family = scraped(metrics)[name]

    assert family.type == kind
    assert family.samples
    assert {sample.value for sample in family.samples} == {0}
    assert {frozenset(sample.labels) - {"le"} for sample in family.samples} == {frozenset(labels)}


@pytest.mark.parametrize(
    "name", ["headrace_store_free_bytes", "headrace_certificate_expires_timestamp_seconds", "headrace_spool_bytes"]
)
def test_what_would_alarm_at_zero_is_absent(name: str, metrics: Metrics) -> None:
    """Neither a PostgreSQL store nor a server without a certificate looks like a full disk or an expired one."""
    assert name not in scraped(metrics)


def test_timestamps_are_absent_until_first_seen(metrics: Metrics) -> None:
    """An event of 1970 would be an alarm: a source that has not heard anything has no timestamp."""
    for name in ABSENT_UNTIL_SEEN:
        assert scraped(metrics)[name].samples == []


def test_there_are_no_created_series(metrics: Metrics) -> None:
    """The `_created` series would double the number of series and nobody reads them."""
    metrics.received.labels("fleet", "webhook").inc()
    assert "_created" not in openmetrics(metrics.registry).decode()  # type: ignore[no-untyped-call]


def test_every_label_value_is_known_beforehand(metrics: Metrics) -> None:
    """Duplicate kinds, reject reasons, codes and delivery outcomes are closed lists, all declared."""
    families = scraped(metrics)

    def values(name: str, label: str) -> set[str]:
        return {sample.labels[label] for sample in families[name].samples}

    assert values("headrace_events_duplicate", "kind") == {"redelivery", "overlap", "redundant", "resend"}
    assert values("headrace_hook_echoes", "outcome") == {"sent", "response", "error", "skipped"}
    assert values("headrace_events_rejected", "reason") == {reason.value for reason in Reason}
    assert values("headrace_ingest_responses", "code") == set(WEBHOOK_CODES)
    assert set(WEBHOOK_CODES) == {"200", *(str(code) for code in ANSWERS)}
    for name in ("headrace_gaps", "headrace_gap_seconds"):
        assert values(name, "cause") == {cause.value for cause in Cause}
    assert values("headrace_source_reconnects", "cause") == {cause.value for cause in RECONNECT_CAUSES}
    assert values("headrace_source_reconnects", "mode") == {"sse"}  # nobody connects again to a webhook but the sender
    assert values("headrace_handler_deliveries", "outcome") == {"delivered", "retried", "dead"}


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("headrace_transit_seconds", 0.05, 86400), ("headrace_ack_seconds", 0.001, 20)],
)
def test_histograms_reach_as_far_as_the_contract_says(name: str, least: float, most: float, metrics: Metrics) -> None:
    """The first and the last bound of a histogram are the contract's."""
    bounds = [float(s.labels["le"]) for s in scraped(metrics)[name].samples if "le" in s.labels]
    assert (min(bounds), sorted(bounds)[-2]) == (least, most)


def test_counts_are_those_of_one_source(metrics: Metrics) -> None:
    """The API's counts sum up kinds and reasons, and leave other sources and modes out."""
    metrics.declare_source("other", "sse")
    metrics.received.labels("fleet", "webhook").inc(5)
    metrics.duplicate.labels("fleet", "webhook", "overlap").inc(2)
    metrics.duplicate.labels("fleet", "webhook", "redelivery").inc()
    metrics.rejected.labels("fleet", "webhook", Reason.BAD_TIME).inc()
    metrics.stored.labels("other", "sse").inc(9)

    counts = metrics.counts("fleet", "webhook")
    assert (counts["received"], counts["duplicate"], counts["rejected"], counts["stored"]) == (5, 3, 1, 0)


def test_counts_of_a_source_look_at_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """With two hundred sources each of them costs as much as alone."""
    metrics = Metrics(CollectorRegistry())
    for source in ("fleet", "other"):
        metrics.declare_source(source, "webhook")
    metrics.received.labels("fleet", "webhook").inc(5)
    metrics.rejected.labels("fleet", "webhook", Reason.TOO_LARGE).inc(2)
    metrics.duplicate.labels("fleet", "webhook", "overlap").inc()
    metrics.in_flight.labels("fleet", "webhook").set_function(lambda: 2)
    metrics.in_flight.labels("other", "webhook").set_function(lambda: 1 / 0)
    for family in (LoopCounter, LoopHistogram):
        monkeypatch.setattr(family, "collect", lambda _: 1 / 0)

    counts = metrics.counts("fleet", "webhook")

    assert counts == {
        "received": 5,
        "stored": 0,
        "duplicate": 1,
        "rejected": 2,
        "ignored": 0,
        "deferred": 0,
        "in_flight": 2,
    }
