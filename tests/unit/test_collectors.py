"""Counting without locks gives the scraper exactly what prometheus_client's own collectors would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest

from ingest.collectors import LoopCounter, LoopHistogram

BUCKETS = (0.001, 0.05, 1.0, 60.0)
disable_created_metrics()  # type: ignore[no-untyped-call]


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.floats(0, 1000) | st.sampled_from(BUCKETS))))
def test_a_scrape_is_the_same(seen: list[tuple[str, float]]) -> None:
    """Names, labels, buckets and sums, also where a value is a bound, and where nothing was counted."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counters = (
        LoopCounter("headrace_things", "Things", ["source"], registry=ours),
        Counter("headrace_things", "Things", ["source"], registry=theirs),
    )
    histograms = (
        LoopHistogram("headrace_seconds", "Time", ["source"], registry=ours, buckets=BUCKETS),
        Histogram("headrace_seconds", "Time", ["source"], registry=theirs, buckets=BUCKETS),
    )
    for collector in (*counters, *histograms):
        collector.labels("a")
    for source, value in seen:
        for counter in counters:
            counter.labels(source).inc(value)
        for histogram in histograms:
            histogram.labels(source).observe(value)

    assert generate_latest(ours) == generate_latest(theirs)


def test_a_label_too_few_is_a_fault() -> None:
    """A label set that nobody declared must not appear under another name."""
    with pytest.raises(ValueError, match="labels"):
        LoopCounter("headrace_things", "Things", ["source", "mode"], registry=CollectorRegistry()).labels("fleet")


def test_a_name_is_taken_once() -> None:
    """Two collectors of one name are a fault at start, not a scrape that nobody can read."""
    registry = CollectorRegistry()
    LoopCounter("headrace_things", "Things", ["source"], registry=registry)
    with pytest.raises(ValueError, match="Duplicated"):
        LoopCounter("headrace_things", "Things", ["source"], registry=registry)
