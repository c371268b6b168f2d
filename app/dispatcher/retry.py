"""What becomes of an event that its handler failed to take: when it is tried again, and when it is given up."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random

from app.settings import RetrySettings
from ingest.deliveries import Parked
from ingest.errors import DeadLetter
from ingest.event import Event

_ERROR_CHARACTERS = 500
_DOUBLINGS = 60


class Retry:
    """Exponential back-off with full jitter (Brooker, "Exponential Backoff And Jitter", AWS 2015), until it is too old.

    The last attempt is made when the event has been failing for `max_age`.
    """

    def __init__(self, settings: RetrySettings, random: Random) -> None:
        self._settings = settings
        self._random = random

    def park(self, event: Event, before: Parked | None, error: BaseException, now: datetime) -> Parked:
        """The row of an event that failed just now; `before` is its row until then."""
        attempts = 1 if before is None else before.attempts + 1
        first = now if before is None or before.first_failed_at is None else min(now, before.first_failed_at)
        ends = first + self._settings.max_age
        exhausted = now >= ends or (self._settings.attempts is not None and attempts >= self._settings.attempts)
        due = None if exhausted or isinstance(error, DeadLetter) else min(now + self._delay(attempts), ends)
        return Parked(event.position or 0, event.device, attempts, first, due, text_of(error))

    def _delay(self, attempts: int) -> timedelta:
        base, cap = self._settings.base.total_seconds(), self._settings.cap.total_seconds()
        return timedelta(seconds=self._random.uniform(0, min(cap, base * 2.0 ** min(attempts - 1, _DOUBLINGS))))


def text_of(error: BaseException) -> str:
    """Type and message of an error, at most 500 characters, as every database can keep them."""
    try:
        message = str(error)
    except BaseException as broken:  # the error is somebody else's code, and so is its __str__
        message = f"(its message cannot be read: {type(broken).__name__})"
    name = "" if isinstance(error, DeadLetter) and message else type(error).__name__
    text = ": ".join(part for part in (name, message) if part)
    return text[:_ERROR_CHARACTERS].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
