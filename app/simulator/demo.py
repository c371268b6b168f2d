"""Handlers of the demo: one takes everything, one fails as real ones do, so that retries and dead letters are seen.

Failures are rare enough to leave the terminal readable, and sure to come as soon as the fleet's devices go online.
"""

from __future__ import annotations

import random
import zlib

from ingest import DeadLetter, Event

_HICCUPS = 0.001
_GROUPS = 16  # of devices; about three of fifty are in one
_UNANSWERED, _UNWANTED = 0, 1


async def on_event(event: Event) -> None:
    """Take the event."""


async def on_event_now_and_then(event: Event) -> None:
    """Take most events. Raises ConnectionError, now and then or for good, and DeadLetter for what nobody wants."""
    group = zlib.crc32((event.device or "").encode()) % _GROUPS if event.name == "spark/status" else None
    if group == _UNWANTED:
        raise DeadLetter("no rule of the demo wants the status of this device")
    if group == _UNANSWERED or random.random() < _HICCUPS:  # noqa: S311 - to look real, not to keep a secret
        raise ConnectionError("the demo's other side did not answer")
