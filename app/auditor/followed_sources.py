"""Which sources' devices have a counter, and how an event's number is found."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import NamedTuple

from app.settings import SourceSettings
from ingest.event import Event
from ingest.formats.pointer import parse_pointer
from ingest.sequences import NumberReader, Observation, SequenceRules
from storage.rows import to_micros


class FollowedSource(NamedTuple):
    """One source whose events carry numbers."""

    label: str
    products: Set[str]
    reader: NumberReader
    rules: SequenceRules


class FollowedSources:
    """The sources that have a `sequence`. What a source of the past stored is read as its product's events are now."""

    def __init__(self, sources: Mapping[str, FollowedSource]) -> None:
        self._sources = sources
        self._of_product = {name: source for source in reversed(list(sources.values())) for name in source.products}

    def __bool__(self) -> bool:
        return bool(self._sources)

    def of_event(self, event: Event) -> FollowedSource | None:
        """Return the source of an event, if its product's devices have a counter."""
        source = self._sources.get(event.source)
        return source if source and event.product in source.products else self._of_product.get(event.product)

    def modulus_of(self, product: str) -> int | None:
        """Return where the counters of a product wrap."""
        source = self._of_product.get(product)
        return None if source is None else source.rules.modulus


def observation_of(source: FollowedSource, event: Event) -> Observation | None:
    """Return what an event tells of its device's counter; None where it carries no number."""
    found = None if event.device is None else source.reader.read(event)
    if found is None or event.device is None:
        return None
    at = to_micros(event.received_at)
    return Observation(event.product, event.device, source.label, found.number, found.digest, found.epoch, at)


def followed_sources(sources: Mapping[str, SourceSettings]) -> FollowedSources:
    """Return those of the configured sources that have a `sequence`."""
    found = {label: _followed(label, source) for label, source in sources.items() if source.sequence is not None}
    return FollowedSources(found)


def _followed(label: str, source: SourceSettings) -> FollowedSource:
    epoch = None if source.sequence_epoch is None else parse_pointer(source.sequence_epoch).tokens
    reader = NumberReader(parse_pointer(source.sequence or "").tokens, source.sequence_names, epoch)
    grace = round(source.loss_grace.total_seconds() * 1_000_000)
    rules = SequenceRules(grace, source.sequence_first, source.sequence_modulus, by_epoch=epoch is not None)
    return FollowedSource(label, source.products.names, reader, rules)
