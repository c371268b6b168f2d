"""The fate of an event that its handler failed to take: when it is tried again, and when it is given up."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random

from app.settings import RetrySettings
from ingest.deliveries import Parked
from ingest.errors import DeadLetter
from ingest.event import Event
from ingest.retrying import Backoff

_ERROR_CHARACTERS = 500


class Retry:
    """Exponential back-off with full jitter, until an event is too old.

    The last attempt is made when the event has been failing for `max_age`.
    """

    def __init__(self, settings: RetrySettings, random: Random) -> None:
        self._settings = settings
        self._backoff = Backoff(settings.base.total_seconds(), settings.cap.total_seconds(), jitter=1.0)
        self._draw = random.uniform

    def park(
        self, event: Event, before: Parked | None, error: BaseException, now: datetime, *, alone: bool = True
    ) -> Parked:
        """Return the row of an event that failed just now; `before` is its row until then.

        Where it was not `alone`, another event may be to blame: it is tried once more, whatever the error says.
        """
        attempts = 1 if before is None else before.attempts + 1
        first = now if before is None or before.first_failed_at is None else min(now, before.first_failed_at)
        ends = first + self._settings.max_age
        exhausted = now >= ends or (self._settings.attempts is not None and attempts >= self._settings.attempts)
        dead = alone and (exhausted or isinstance(error, DeadLetter))
        due = None if dead else min(now + self._delay(attempts), ends)
        return Parked(event.position or 0, event.device, attempts, first, due, text_of(error))

    def _delay(self, attempts: int) -> timedelta:
        return timedelta(seconds=self._backoff.seconds(attempts, self._draw))


def text_of(error: BaseException) -> str:
    """Return type and message of an error, at most 500 characters, as every database can keep them."""
    try:
        message = str(error)
    except BaseException as broken:  # the error is somebody else's code, and so is its __str__
        message = f"(its message cannot be read: {type(broken).__name__})"
    name = "" if isinstance(error, DeadLetter) and message else type(error).__name__
    text = ": ".join(part for part in (name, message) if part)
    return text[:_ERROR_CHARACTERS].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
