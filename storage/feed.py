"""The store's tail: committed events by position, from memory where they just were, else from the database.

Positions are dense, so whether memory holds the very next event is a subtraction, never a guess. Another process's
commits make a hole there; then the database is read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, select

from ingest.errors import StoreRewound
from ingest.event import Commit, Event, Outcome
from ingest.retrying import wait_at_most
from ingest.submission import weight
from storage.engine import Database
from storage.rewinds import Rewinds
from storage.rows import event_of
from storage.tables import LAST_POSITION, events

_RECENT_EVENTS = 10_000
_RECENT_BYTES = 32 * 1024 * 1024
_POLL_SECONDS = 1.0  # another process's commits are noticed by looking

_READ = (
    select(events).where(events.c.position > bindparam("after")).order_by(events.c.position).limit(bindparam("most"))
)
_HEAD = LAST_POSITION


class SqlFeed:
    """protocols.Feed, told of this process's commits by `publish`."""

    def __init__(self, database: Database, rewinds: Rewinds | None = None) -> None:
        self._database = database
        self._rewinds = rewinds or Rewinds()
        self._remembered_since = self._rewinds.number
        self._recent: list[Event] = []  # contiguous positions; trimmed by halves, so that an index stays arithmetic
        self._recent_bytes = 0
        self._unread: deque[tuple[Commit, int, int]] = deque()  # behind these; with how many events, and their bytes
        self._unread_events = self._unread_bytes = 0
        self._arrival = asyncio.Event()

    def publish(self, commit: Commit, size: int) -> None:
        """Remember what was just committed, about `size` bytes of memory, and wake whoever waits for it.

        Its events are made when somebody reads them: a reader that is far behind costs the commits nothing.
        """
        count = commit.outcomes.count(Outcome.STORED)
        if not count:
            return
        self._forget_rewound()
        self._unread.append((commit, count, size))
        self._unread_events += count
        self._unread_bytes += size
        while self._are_many():
            if self._recent:
                self._forget((len(self._recent) + 1) // 2)
            else:
                self._take_unread()
        arrival, self._arrival = self._arrival, asyncio.Event()
        arrival.set()

    async def read(self, after: int, limit: int) -> Sequence[Event]:
        """See protocols.Feed."""
        self._forget_rewound()
        while self._unread and (not self._recent or self._last() < after + limit):
            self._remember(self._take_unread().events())
        if self._recent:
            start = after + 1 - self._first()
            if 0 <= start < len(self._recent):
                return self._recent[start : start + limit]
        mark = self._rewinds.mark()
        found, head = await self._database.read(_read, after, limit)
        if not found:
            self._rewinds.compare(mark, head)
            if head < after <= self._rewinds.highest:
                raise StoreRewound(f"the store ends at {head}, and was read up to {after}")
        self._rewinds.reached(head)
        return found

    async def wait(self, after: int) -> None:
        """See protocols.Feed."""
        if self._unread or (self._recent and self._last() > after):
            return
        await wait_at_most(self._arrival, _POLL_SECONDS)

    def _first(self) -> int:
        return self._recent[0].position or 0

    def _last(self) -> int:
        return self._recent[-1].position or 0

    def _forget_rewound(self) -> None:
        """Forget what was committed before the database was put back."""
        if self._remembered_since != self._rewinds.number:
            self._remembered_since = self._rewinds.number
            self._forget(len(self._recent))
            while self._unread:
                self._take_unread()

    def _remember(self, committed: Sequence[Event]) -> None:
        self._recent.extend(committed)
        self._recent_bytes += sum(map(weight, committed))
        if not self._contiguous():  # another process committed in between
            self._forget(len(self._recent) - len(committed))
        if not self._contiguous():  # or between the two halves of this one
            self._forget(len(self._recent))

    def _take_unread(self) -> Commit:
        commit, count, size = self._unread.popleft()
        self._unread_events -= count
        self._unread_bytes -= size
        return commit

    def _are_many(self) -> bool:
        """Return whether more is remembered than should be; the newest commit always is."""
        held = bool(self._recent) or len(self._unread) > 1
        events, size = len(self._recent) + self._unread_events, self._recent_bytes + self._unread_bytes
        return held and (events > 2 * _RECENT_EVENTS or size > _RECENT_BYTES)

    def _contiguous(self) -> bool:
        return self._last() - self._first() == len(self._recent) - 1

    def _forget(self, oldest: int) -> None:
        self._recent_bytes -= sum(map(weight, self._recent[:oldest]))
        del self._recent[:oldest]


def _read(connection: Connection, after: int, limit: int) -> tuple[list[Event], int]:
    """Return the events, and a position that is committed: the last of them, or the head where there are none."""
    found = [event_of(row) for row in connection.execute(_READ, {"after": after, "most": limit})]
    return found, (found[-1].position or 0) if found else _head(connection)


def _head(connection: Connection) -> int:
    return int(connection.execute(_HEAD).scalar_one())
