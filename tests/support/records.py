"""Records as a decoder would make them, for tests behind the formats."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from ingest.event import Event, HookEcho, Ignored, Mode, Reason, Reject
from ingest.identity import canonicalize, event_id, random_id
from ingest.times import instant_of

NOW = datetime(2026, 7, 28, 16, 53, 5, 616_000, tzinfo=UTC)


def an_event(
    name: str = "temperature",
    *,
    device: str | None = "dev1",
    data: bytes | None = b"21.5",
    published_at: datetime | None = NOW,
    received_at: datetime = NOW,
    source: str = "fleet",
    mode: Mode = "webhook",
    attributes: Mapping[str, str] | None = None,
    message: str | None = None,
) -> Event:
    """An event with the id its content gives it; without `published_at` a random one."""
    instant = None if published_at is None else instant_of(published_at)
    printable = name.encode("utf-8", "replace").decode()
    return Event(
        id=event_id("tracker", device, printable, instant, canonicalize(data)[0])
        if instant
        else random_id(instant_of(NOW)),
        product="tracker",
        device=device,
        name=name,
        data=data,
        content_type=None if data is None else "text/plain",
        published_at=published_at,
        received_at=received_at,
        source=source,
        mode=mode,
        attributes=attributes or {},
        message=message,
    )


def numbered(
    count: int, start: int = 0, *, data: bytes | None = b"21.5", received_at: datetime = NOW, source: str = "fleet"
) -> list[Event]:
    """Events a second apart, the first `start` seconds after NOW."""
    return [
        an_event(published_at=NOW + timedelta(seconds=number), data=data, received_at=received_at, source=source)
        for number in range(start, start + count)
    ]


def a_reject(
    body: bytes = b"{",
    *,
    reason: Reason = Reason.MALFORMED_JSON,
    received_at: datetime = NOW,
    attributes: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    element: int | None = None,
) -> Reject:
    """A reject of the source `fleet`."""
    return Reject(
        source="fleet",
        mode="webhook",
        received_at=received_at,
        reason=reason,
        body=body,
        attributes=attributes,
        headers=headers,
        element=element,
    )


def an_ignored(
    echo: HookEcho | None = None, *, source: str = "fleet", mode: Mode = "webhook", received_at: datetime = NOW
) -> Ignored:
    """An ignored element."""
    return Ignored(source=source, mode=mode, received_at=received_at, echo=echo)
