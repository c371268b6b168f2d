"""The mode `sse`, for the rest of Headrace."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from ingest.errors import ConfigurationError
from ingest.event import Origin
from ingest.formats.pointer import FRAME_ID
from ingest.sources.mode import Fault, SourceMode, SourceParts, Sources
from ingest.sources.sse.settings import SseSettings

if TYPE_CHECKING:
    from ingest.formats import AnyFormat
    from ingest.sources.sse.source import SseSource

_PARTICLE_HOST = "api.particle.io"
_PARTICLE_EVENTS = f"https://{_PARTICLE_HOST}/v1/products/{{product}}/events"
_ALL_OUR_DEVICES = f"https://{_PARTICLE_HOST}/v1/devices/events"


class Streams:
    """The streams of one process."""

    def __init__(self, parts: SourceParts) -> None:
        self._parts = parts

    def __call__(self, origin: Origin, settings: SseSettings, format_: AnyFormat) -> SseSource:
        """Make the streams of a label."""
        from ingest.sources.sse.source import SseRules, SseSource

        parts = self._parts
        return SseSource(
            origin=origin,
            rules=SseRules(
                url=settings.url,
                token=None if settings.token is None else settings.token.value,
                idle=settings.idle_timeout.total_seconds(),
                streams=settings.streams,
            ),
            format_=format_,
            intake=parts.intake(origin),
            coverage=parts.coverage,
            leases=parts.leases,
            opens=parts.opens,
            metrics=parts.metrics,
            now=parts.clock,
        )


def _faults(sources: Sources) -> Iterator[Fault]:
    """Find missing tokens, and places of fields that a stream has not, or nothing but a stream has."""
    for label, source in sources.items():
        key, settings = ("sources", label), source.table("sse")
        streams = "sse" in source.modes
        if streams and settings.token is None and urlsplit(settings.url).hostname == _PARTICLE_HOST:
            yield (*key, "sse", "token"), f"required for {_PARTICLE_HOST}"
        for name, place in source.fields or ():
            if streams and isinstance(place, str) and place.startswith("header:"):
                because = "the events of a stream have no headers, and would get other ids than by webhook"
                yield (*key, "fields", name), f"expected a JSON pointer with mode sse: {because}"
            if place == FRAME_ID.name and source.modes != ("sse",):
                because = "only the frames of a stream have an id: line, and by another mode the ids would be others"
                yield (*key, "fields", name), f'expected "{FRAME_ID.name}" with mode sse alone: {because}'


def _probe(key: str, settings: SseSettings) -> str:
    """Open the stream and leave it."""
    from ingest.sources.sse.probe import probe

    refused = asyncio.run(probe(settings.url, None if settings.token is None else settings.token.value()))
    if refused is not None:
        raise ConfigurationError(f"{key}.{'token' if refused.of_token else 'url'}: {refused.reason}")
    return f"{key}.url: answers with an event stream"


SSE = SourceMode(
    name="sse",
    settings=SseSettings,
    factory=Streams,
    defaults=lambda _label, product: {
        "url": _PARTICLE_EVENTS.format(product=quote(product, safe="")) if product else _ALL_OUR_DEVICES
    },
    faults=_faults,
    probe=_probe,
    quiet_seconds=lambda settings: settings.idle_timeout.total_seconds(),
)
