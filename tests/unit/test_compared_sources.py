"""Which sources are compared, by which ways, and what is counted of it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from app.compared_sources import SeenBy, compared_sources
from app.settings import Settings
from ingest.metrics import Metrics
from storage.books.transits import bucket_of, quantile, seconds_of
from storage.books.ways import ComparedSource, Way

BOTH = ("webhook", "sse")
FLEET = ComparedSource("fleet", 1, (Way("fleet", "webhook"), Way("fleet", "sse"), Way("backup", "webhook")))


def compared(**sources: dict[str, Any]) -> dict[str, tuple[float, str]]:
    """The grace in seconds and the ways of each source that is compared."""
    settings = Settings.model_validate({"sources": sources})
    return {one.label: (one.grace / 1e6, one.names(one.ways)) for one in compared_sources(settings.sources)}


def test_a_source_with_several_modes_is_compared() -> None:
    """In the order webhook, sse, pubsub, however they are configured; one with a single mode is not."""
    assert compared(
        fleet={"product": "a", "mode": ["pubsub", "webhook", "sse"], "loss_grace": "1h"}, other={"product": "b"}
    ) == {"fleet": (3600, "webhook+sse+pubsub")}


def test_sources_of_one_product_are_compared() -> None:
    """Each with the ways of the other behind its own, by the longer grace; not where one may bring more products."""
    several = {"from": "/id", "map": {"1": "a"}, "default": "b"}
    assert compared(
        fleet={"product": "a", "mode": list(BOTH)},
        backup={"product": "a", "loss_grace": "1h"},
        all={"product": several},
    ) == {
        "fleet": (3600, "webhook+sse+backup:webhook"),
        "backup": (3600, "webhook+fleet:webhook+fleet:sse"),
    }


def test_every_label_set_is_there_from_the_start_and_no_other_comes() -> None:
    """What brought an event is counted, and each way that did not."""
    metrics = Metrics(CollectorRegistry())
    counts = SeenBy(metrics, (FLEET,))

    def shown(name: str, label: str) -> dict[str, float]:
        families = metrics.registry.restricted_registry([name]).collect()
        return {sample.labels[label]: sample.value for family in families for sample in family.samples}

    before = shown("headrace_seen_by_total", "modes")
    assert set(before) == {
        *("webhook", "sse", "webhook+sse", "webhook+backup:webhook", "sse+backup:webhook"),
        "webhook+sse+backup:webhook",
    }
    assert set(before.values()) == {0}
    counts.count("fleet", "sse", 3)
    counts.count("fleet", "webhook+sse+backup:webhook", 10)
    assert shown("headrace_seen_by_total", "modes") == before | {"sse": 3, "webhook+sse+backup:webhook": 10}
    assert shown("headrace_missed_by_total", "way") == {"webhook": 3, "sse": 0, "backup:webhook": 3}


@given(st.lists(st.floats(0.001, 2e6), min_size=1, max_size=50), st.sampled_from([0.5, 0.99]))
def test_quantiles_are_right_within_a_step(seconds: list[float], share: float) -> None:
    """A quantile of transits is off by a tenth at most."""
    counts: dict[int, int] = {}
    for one in seconds:
        bucket = bucket_of(round(one * 1e6))
        counts[bucket] = counts.get(bucket, 0) + 1
    right = next(one for at, one in enumerate(sorted(seconds), 1) if at >= share * len(seconds))
    found = quantile(counts, share)
    assert 0.9 * right - 0.001 < found < 1.1 * right + 0.001


def test_times_beyond_the_scale_are_at_its_ends() -> None:
    """What came before it was sent, by unlike clocks, and what took a year."""
    assert (bucket_of(-5_000_000), bucket_of(0), bucket_of(365 * 86400 * 1_000_000)) == (0, 0, 120)
    assert seconds_of(120) > 30 * 86400 * 0.9
