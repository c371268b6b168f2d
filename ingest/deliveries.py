"""The values of delivery: an event that was read, one that is parked, and how far a handler is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

LEASE_SECONDS = 10  # how long a cursor stays with a process that does not renew its lease


class Seen(NamedTuple):
    """An event that was read, so that it is known again."""

    position: int
    id: UUID


@dataclass(frozen=True, slots=True)
class Parked:
    """An event that the cursor has passed and the handler does not have yet.

    It failed (`attempts` ≥ 1), or waits behind an earlier one of its device (`attempts` = 0). `due_at` is when to try
    next; None is a dead letter.
    """

    position: int
    device: str | None
    attempts: int
    first_failed_at: datetime | None
    due_at: datetime | None
    error: str


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
