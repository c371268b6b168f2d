"""Which sources' events come several ways, and the counts of which of these brought them."""

from __future__ import annotations

from collections.abc import Mapping

from app.settings import SourceSettings
from ingest.metrics import Metrics
from ingest.sources import modes
from storage.books.ways import ComparedSource, Way

_MICROS = 1_000_000


def compared_sources(sources: Mapping[str, SourceSettings]) -> tuple[ComparedSource, ...]:
    """Return the sources with several modes, and those that bring the same products as another one."""
    found = []
    for label, source in sources.items():
        alike = {label: source} | {
            other: settings for other, settings in sources.items() if settings.products.names == source.products.names
        }
        ways = tuple(Way(one, mode) for one, its in alike.items() for mode in modes() if mode in its.modes)
        if len(ways) > 1:
            grace = max(its.loss_grace for its in alike.values())
            found.append(ComparedSource(label, round(grace.total_seconds() * _MICROS), ways))
    return tuple(found)


def graces_of(sources: Mapping[str, SourceSettings]) -> dict[str, float]:
    """Return how many seconds late an event of each source that is compared may come by another way."""
    return {source.label: source.grace / _MICROS for source in compared_sources(sources)}


class SeenBy:
    """Counts the events that were compared, by the ways that brought them and by each way that did not."""

    def __init__(self, metrics: Metrics, sources: tuple[ComparedSource, ...]) -> None:
        self._metrics = metrics
        self._sources = {source.label: source for source in sources}
        for source in sources:
            metrics.declare_ways(source.label, source.possible_names(), source.missed(""))

    def count(self, source: str, names: str, events: int) -> None:
        """Count events of a source that the ways of these names brought, and no other."""
        self._metrics.seen_by.labels(source, names).inc(events)
        for way in self._sources[source].missed(names):
            self._metrics.missed_by.labels(source, way).inc(events)
