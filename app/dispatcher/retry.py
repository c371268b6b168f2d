"""The fate of an event that its handler failed to take: when it is tried again, and when it is given up."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random

from app.settings import RetrySettings
from ingest.deliveries import Attempt, Parked
from ingest.delivery import DeliveryFailed, Verdict, text_of
from ingest.event import Event
from ingest.retrying import Backoff


class Retry:
    """Exponential back-off, with jitter upwards and within `cap`, until an event is too old.

    The last attempt is made when the event has been failing for `max_age`.
    """

    def __init__(self, settings: RetrySettings, random: Random) -> None:
        self._settings = settings
        self._longest = settings.cap.total_seconds()
        self._backoff = Backoff(settings.base.total_seconds(), self._longest, jitter=0.0)
        self._draw = random.uniform

    def park(
        self,
        event: Event,
        before: Parked | None,
        failure: DeliveryFailed,
        attempt: Attempt,
        *,
        alone: bool = True,
        stands_still: bool = False,
        stood_still: timedelta = timedelta(),
    ) -> Parked:
        """Return the row of an event after an attempt that failed; `before` is its row until then.

        Where it was not `alone`, another event may be to blame: it is tried once more, whatever the failure says. Where
        the handler `stands_still` now, nothing dies, and the event is first in line when that goes on. The time for
        which the handler `stood_still` since the attempt before does not make it older.
        """
        now = attempt.at
        attempts = 1 if before is None else before.attempts + 1
        first = now
        if before is not None and before.first_failed_at is not None:
            first = min(now, before.first_failed_at + stood_still)
        ends = first + self._settings.max_age
        exhausted = now >= ends or (self._settings.attempts is not None and attempts >= self._settings.attempts)
        dead = alone and not stands_still and (exhausted or failure.verdict is Verdict.DEAD)
        next_at = now if stands_still else min(now + self._delay(attempts, failure.retry_after or 0.0), ends)
        return Parked(
            position=event.position or 0,
            device=event.device,
            attempts=attempts,
            first_failed_at=first,
            due_at=None if dead else next_at,
            error=text_of(failure),
            cause=attempt.cause,
            history=(attempt,) if before is None else before.history_with(attempt),
        )

    def _delay(self, attempts: int, retry_after: float) -> timedelta:
        least = self._backoff.seconds(attempts, self._draw)
        seconds = max(self._draw(least, 2 * least), retry_after)
        return timedelta(seconds=min(seconds, self._longest))


def attempt_of(failure: DeliveryFailed, now: datetime, seconds: float) -> Attempt:
    """Return what is kept of an attempt that failed just now, after so many seconds."""
    return Attempt(now, round(seconds, 6), failure.status, failure.cause.value, failure.answer or text_of(failure))
