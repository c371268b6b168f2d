"""The shapes of answers, from which the schemas of the OpenAPI document are made."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

import msgspec

from app.event_json import EventJson, Time


class EventsPage(TypedDict):
    """A page of events. `next` is null when there is no more now; `last` is always where to go on from."""

    events: list[EventJson]
    next: int | None
    last: int


class Sighting(TypedDict):
    """A further arrival of an event that was there already."""

    source: str
    mode: str
    received_at: Time


class EventWithSightings(TypedDict):
    """One event, and who else saw it."""

    sightings: list[Sighting]


class OpenGap(TypedDict):
    """Since when nothing is listening, and why; `seconds` are up to now."""

    since: Time
    cause: str
    seconds: float


class Stream(TypedDict):
    """One connection of a source that listens. `lost` and `reason`: why it last ended."""

    stream: int
    state: str
    since: Time
    last_byte_at: Time | None
    lost: str | None
    reason: str | None
    next_attempt_at: Time | None


class Source(TypedDict):
    """One source and mode. `counts` are this process's: received is the sum of the other six."""

    source: str
    mode: str
    product: str
    state: str
    since: Time
    reason: str | None
    last_event_at: Time | None
    last_byte_at: Time | None
    counts: dict[str, int]
    duplicate_kinds: dict[str, int]
    open_gap: OpenGap | None
    streams: list[Stream]


class SourcesList(TypedDict):
    """Every configured source and mode."""

    sources: list[Source]


class GapJson(TypedDict):
    """When nothing of a source and mode was listening. `until` is null while it lasts, and `seconds` are up to now.

    `suspected` is how many events it may have cost: its length times the usual rate; 0 while it lasts.
    """

    id: int
    source: str
    mode: str
    since: Time
    until: Time | None
    cause: str
    seconds: float
    suspected: float


class GapsPage(TypedDict):
    """A page of gaps."""

    gaps: list[GapJson]
    next: int | None
    last: int


class RejectJson(TypedDict):
    """What was authentic but could not become an event. `body_base64` is what was sent.

    `attributes` stood beside it, in a Pub/Sub message for one; null where there were none.
    """

    id: int
    source: str
    mode: str
    received_at: Time
    reason: str
    body_base64: str
    attributes: dict[str, str] | None


class RejectsPage(TypedDict):
    """A page of rejects."""

    rejects: list[RejectJson]
    next: int | None
    last: int


class Handler(TypedDict):
    """One handler. `retries`: events that wait for another try. `lag_seconds`: age of the oldest one behind."""

    handler: str
    state: str
    position: int
    head: int
    lag_events: int
    lag_seconds: float
    retries: int
    dead: int
    holder: str | None
    lease_expires_at: Time | None


class HandlersList(TypedDict):
    """Every handler that ever ran."""

    handlers: list[Handler]


class DeadJson(TypedDict):
    """An event a handler gave up; `event` is null where retention took it since."""

    position: int
    error: str
    attempts: int
    first_failed_at: Time | None
    event: EventJson | None


class DeadPage(TypedDict):
    """A page of dead letters."""

    dead: list[DeadJson]
    next: int | None
    last: int


class Redriven(TypedDict):
    """How many dead letters the handler gets again."""

    redriven: int


class Live(TypedDict):
    """The process answers."""

    live: bool


class SourceDown(TypedDict):
    """A source that cannot receive now."""

    source: str
    mode: str
    state: str
    reason: str | None


class HandlerFailing(TypedDict):
    """A handler that delivers nothing because of its own code."""

    handler: str
    reason: str


class Ready(TypedDict):
    """Traffic is welcome."""

    ready: bool
    sources_down: list[SourceDown]
    handlers_failing: list[HandlerFailing]


class Problem(TypedDict):
    """An error (RFC 9457). `errors` name the parameters at fault."""

    type: str
    title: str
    status: int
    detail: str
    errors: NotRequired[list[dict[str, str]]]


_SHAPES = (
    *(EventsPage, EventWithSightings, SourcesList, GapsPage, RejectsPage, HandlersList, DeadPage, Redriven),
    *(Live, Ready, Problem),
)


def schemas() -> dict[str, Any]:
    """Every shape as JSON Schema, by name."""
    _, components = msgspec.json.schema_components(_SHAPES, ref_template="#/components/schemas/{name}")
    event = components["EventJson"]
    event["oneOf"] = [{"required": ["data"]}, {"required": ["data_base64"]}]
    detailed = components["EventWithSightings"]
    components["EventWithSightings"] = {"allOf": [{"$ref": "#/components/schemas/EventJson"}, detailed]}
    return components
