"""The metrics that rules and dashboards may name: those that a server has, and those of the contract to come."""

from __future__ import annotations

import re

from prometheus_client import CollectorRegistry

from ingest.metrics import Metrics

# Contract §6 has them; what counts them is being built. Remove a line here when it is there.
WAITING: dict[str, str] = {}
_NAME = re.compile(r"(?<![:\w])headrace_\w+")


def known_metrics() -> set[str]:
    """Return the names of all samples that a server may show."""
    metrics = Metrics(CollectorRegistry())
    _ = metrics.free_bytes, metrics.certificate_expires, metrics.spool  # not every server has them
    names: set[str] = {"headrace_build_info"}
    for family in metrics.registry.collect():
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        names |= {f"{family.name}{ending}" for ending in endings}
    return names


def unknown_metrics(text: str) -> set[str]:
    """Return the metrics that a text names, no server has, and nobody is building."""
    named = set(_NAME.findall(text)) - {"headrace_events_received", "headrace_events_stored"}
    return named - known_metrics() - set(WAITING)
