"""The values of delivery: an event that was read, one that is parked, and how far a handler is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import msgspec

LEASE_SECONDS = 10  # how long a cursor stays with a process that does not renew its lease


class Seen(NamedTuple):
    """An event that was read, so that it is known again."""

    position: int
    id: UUID


class Attempt(msgspec.Struct, frozen=True):
    """A delivery that failed: when it ended, how long it took, what the receiver answered, and why it is no success.

    `cause` is one of FailureCause; `error` has at most 500 characters.
    """

    at: datetime
    seconds: float
    status: int | None
    cause: str
    error: str


class Answer(NamedTuple):
    """A receiver's answer to a delivery: its status, and how its text begins, 500 characters at most."""

    status: int
    text: str


LAST_ATTEMPTS = 20
CRASHED = "crashed"  # the cause of a dead letter on which the process died three times


@dataclass(frozen=True, slots=True)
class Parked:
    """An event that the cursor has passed and the handler does not have yet.

    It failed (`attempts` ≥ 1), or waits behind an earlier one of its device (`attempts` = 0). `due_at` is when to try
    next; None is a dead letter. `cause` and `error` are of the last attempt; `history` is the first, and then the last
    LAST_ATTEMPTS of the others.
    """

    position: int
    device: str | None
    attempts: int
    first_failed_at: datetime | None
    due_at: datetime | None
    error: str
    cause: str | None = None
    history: tuple[Attempt, ...] = ()

    def last_attempt_at(self) -> datetime | None:
        """Return when it failed last; None where it was not tried."""
        return self.history[-1].at if self.history else self.first_failed_at

    def history_with(self, attempt: Attempt) -> tuple[Attempt, ...]:
        """Return the history with one more attempt."""
        first, others = self.history[:1], self.history[1:]
        return (*first, *(*others, attempt)[-LAST_ATTEMPTS:]) if first else (attempt,)


class CircuitState(StrEnum):
    """Whether a handler's receiver is tried: with all events, with none but a probe, or with a probe at this moment."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Circuit(NamedTuple):
    """The state of a handler's circuit, since when, and the last error, as others see it."""

    state: CircuitState = CircuitState.CLOSED
    since: datetime | None = None
    last_error: str | None = None


CLOSED = Circuit()


class Pause(NamedTuple):
    """Since when a handler is paused, and why."""

    since: datetime
    because: str


class Passed(NamedTuple):
    """What became of the events between a cursor's `first` position and where it is, but for those that are parked.

    `deleted` are dead letters that somebody deleted, `skipped` what retention took from a paused handler.
    """

    first: int
    unmatched: int
    delivered: int
    deleted: int
    skipped: int


@dataclass(frozen=True, slots=True)
class HandlerLag:
    """The distance between a handler and the store.

    `head` is the store's last position, `oldest` when the first event it has not passed came.

    `waiting` and `dead` count its parked rows.
    """

    handler: str
    position: int
    head: int
    oldest: datetime | None
    waiting: int
    dead: int
    passed: Passed
    pause: Pause | None = None
    circuit: Circuit = CLOSED
