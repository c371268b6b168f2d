"""The values that arrive and what becomes of them, frozen; this module imports nothing of ours.

The values are msgspec structs and not dataclasses because one is made per event: 0.4 µs against 2.7 µs. They refer to
no containers but their own attributes, so the garbage collector need not look at them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

MAX_NAME_CHARACTERS = 256
MAX_DEVICE_CHARACTERS = 256
MAX_NESTING = 64
MAX_ELEMENTS = 10_000

Mode = str
"""The name of a delivery mode: how an event reached us. Which there are, ingest.sources says."""


class Reason(StrEnum):
    """The reason why an authentic element could not become an Event. The list is closed: it labels a metric."""

    EMPTY = "empty"  # a body or element without content
    MALFORMED_JSON = "malformed_json"
    MALFORMED_FORM = "malformed_form"
    MALFORMED_GZIP = "malformed_gzip"
    MALFORMED_PUSH = "malformed_push"  # the envelope of a push: data that is no base64, attributes that are no texts
    TRUNCATED = "truncated"  # half of an NDJSON line
    NOT_AN_OBJECT = "not_an_object"
    TOO_DEEP = "too_deep"  # nested over 64 levels
    INVALID_UTF8 = "invalid_utf8"  # outside data; inside data any bytes are welcome
    MISSING_NAME = "missing_name"
    BAD_NAME = "bad_name"  # NUL, control characters or more than 256 characters, or not text
    BAD_DEVICE = "bad_device"
    BAD_TIME = "bad_time"
    BAD_ID = "bad_id"  # the sender's own id, where one is configured, is not text or a number
    TOO_LARGE = "too_large"  # a frame of a stream over its bound; its beginning is kept
    REFUSED_BY_STORE = "refused_by_store"  # the database calls the data itself an error


class Outcome(StrEnum):
    """The fate of an arrival: each gets exactly one. A duplicate also says how the first copy came."""

    STORED = "stored"
    REDELIVERY = "redelivery"  # duplicate: the first came by the same source and mode
    OVERLAP = "overlap"  # duplicate: the first came another way
    REDUNDANT = "redundant"  # duplicate: the first came by another stream of the same source
    RESEND = "resend"  # duplicate: the device sent the message again, as another event
    REJECTED = "rejected"
    IGNORED = "ignored"
    DEFERRED = "deferred"  # not stored; the sender is told to send it again
    SPOOLED = "spooled"  # an event that is durable in the spool: settled, and still in flight until it is drained


class EchoOutcome(StrEnum):
    """What the vendor says of a webhook. The list is closed: it labels a metric."""

    SENT = "sent"
    RESPONSE = "response"
    ERROR = "error"
    SKIPPED = "skipped"  # not tried: too many errors before


class Cause(StrEnum):
    """The reason why nothing was listening: what opened a gap in a source's coverage.

    The list is closed: it labels a metric.
    """

    IDLE = "idle"  # no byte for the idle timeout
    CLOSED = "closed"  # upstream ended the stream in good order
    ERROR = "error"  # reset, broken TLS, an answer that is no stream
    REFUSED = "refused"  # no connection could be made
    RATE_LIMITED = "rate_limited"  # 429, 529
    UNAUTHORIZED = "unauthorized"  # 401, 403, 404: trying again does not help
    STOPPED = "stopped"  # we were told to stop
    DOWN = "down"  # the process was gone: nobody was there to write the cause
    OVERFLOW = "overflow"  # reading was held because nothing more could be taken in


DUPLICATES = frozenset({Outcome.REDELIVERY, Outcome.OVERLAP, Outcome.REDUNDANT, Outcome.RESEND})


class Origin(msgspec.Struct, frozen=True):
    """Whose events these are and which way they come: configuration, never taken from the sender."""

    product: str
    source: str
    mode: Mode


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag=True, array_like=True):
    """One event of a device, normalised: equal whichever mode delivered it, apart from source, mode, times of receipt.

    `id` is the identity (see ingest.identity). `data` is the value exactly as the sender wrote it, None where there was
    none. `stream` tells apart the connections of a source that receive the same events.
    `received_at` and `published_at` are aware, UTC; `published_at` is None where the sender gave no time.
    `position` is the order of commit, dense from 1, and None before the commit. `message` is the device's own number of
    its message (ingest.formats.message_id) until then; None without a device.
    """

    id: UUID
    product: str
    device: str | None
    name: str
    data: bytes | None
    content_type: str | None
    published_at: datetime | None
    received_at: datetime
    source: str
    mode: Mode
    attributes: Mapping[str, str]
    stream: int = 0
    position: int | None = None
    message: str | None = None  # a new member goes behind all others: records wait in a spool while we are upgraded

    @property
    def identified(self) -> bool:
        """Return False where two copies of this event could not be told from two events (random id, see
        ingest.identity).
        """
        return self.published_at is not None or self.id.int >> 80 == 0


class Reject(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag=True, array_like=True):
    """An authentic element that could not become an Event, kept with the bytes that were sent.

    `attributes` are what stood beside them, where the sender's messages have such; `headers` those of the request, in
    lower case, less credentials. `element` is its number in what was sent, from 0, where that had several.
    """

    source: str
    mode: Mode
    received_at: datetime
    reason: Reason
    body: bytes
    attributes: Mapping[str, str] | None = None
    headers: Mapping[str, str] | None = None
    element: int | None = None


class HookEcho(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The vendor's word on a webhook: the name of the event that it was for, and what became of that."""

    name: str
    outcome: EchoOutcome


class Ignored(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag=True, array_like=True):
    """An element whose name the configuration says to leave out; counted, not kept. `echo`: what is tallied of it."""

    source: str
    mode: Mode
    received_at: datetime
    echo: HookEcho | None = None


Record = Event | Reject | Ignored


@dataclass(frozen=True, slots=True)
class Commit:
    """What one transaction did: an outcome for each record, and the new events with their positions, ascending.

    `events` makes them when it is called: without a handler nobody wants them, and they take a tenth of ingestion.
    """

    outcomes: Sequence[Outcome]
    events: Callable[[], Sequence[Event]] = tuple
