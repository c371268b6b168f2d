"""The mode `pubsub`, for the rest of Headrace. Google's client takes a second to import: only where it is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ingest.errors import ConfigurationError
from ingest.event import Origin
from ingest.sources.mode import Fault, SourceMode, SourceParts, Sources
from ingest.sources.pubsub.settings import PubsubSettings

if TYPE_CHECKING:
    from ingest.formats import AnyFormat
    from ingest.protocols import Source


class Subscriptions:
    """The subscriptions of one process."""

    def __init__(self, parts: SourceParts) -> None:
        self._parts = parts

    def __call__(self, origin: Origin, settings: PubsubSettings, format_: AnyFormat) -> Source:
        """Make the source that pulls the subscription of a label."""
        from ingest.sources.pubsub.pull import PullRules
        from ingest.sources.pubsub.source import PubsubSource

        parts = self._parts
        return PubsubSource(
            origin=origin,
            rules=PullRules(
                subscription=settings.subscription or "",  # _faults: it is there
                max_messages=settings.max_messages,
                max_bytes=max(parts.inbox_bytes // settings.streams, 1),
                lease=round(settings.lease.total_seconds()),
            ),
            streams=settings.streams,
            format_=format_,
            intake=parts.intake(origin),
            metrics=parts.metrics,
            now=parts.clock,
        )


def _faults(sources: Sources) -> Iterator[Fault]:
    """Find subscriptions that are missing, or pulled by two sources."""
    owners: dict[str, str] = {}
    for label, source in sources.items():
        if "pubsub" not in source.modes:
            continue
        key, subscription = ("sources", label, "pubsub", "subscription"), source.table("pubsub").subscription
        if subscription is None:
            yield key, "required with mode pubsub"
        elif (owner := owners.setdefault(subscription, label)) != label:
            because = "each message would come to one of them only"
            yield key, f"expected a subscription that sources.{owner} does not have: {because}"


def _probe(key: str, settings: PubsubSettings) -> str:
    """Look at the subscription, and ask whether it may be pulled."""
    from ingest.sources.pubsub.probe import probe

    fault = probe(settings.subscription or "")  # _faults: it is there
    if fault is not None:
        raise ConfigurationError(f"{key}.subscription: {fault}")
    return f"{key}.subscription: can be pulled"


PUBSUB = SourceMode(name="pubsub", settings=PubsubSettings, factory=Subscriptions, faults=_faults, probe=_probe)
