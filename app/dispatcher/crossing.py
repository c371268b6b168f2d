"""The ways from a handler's own loop to the home loop, which has database and feed: a hop for a batch of events."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar

from ingest.deliveries import LEASE_SECONDS, HandlerLag, Parked, Seen
from ingest.event import Event
from ingest.protocols import Cursor, Cursors, Feed

T = TypeVar("T")


class HomeFeed:
    """protocols.Feed for another loop. `wait` brings along what came, so that the next `read` has it already."""

    def __init__(self, feed: Feed, home: asyncio.AbstractEventLoop) -> None:
        self._feed = feed
        self._home = home
        self._limit = 0
        self._brought: Sequence[Event] = ()

    async def read(self, after: int, limit: int) -> Sequence[Event]:
        """See protocols.Feed."""
        self._limit = limit
        brought, self._brought = self._brought, ()
        if brought and brought[0].position == after + 1:
            return brought
        return await _at(self._home, self._feed.read(after, limit))

    async def wait(self, after: int) -> None:
        """See protocols.Feed."""
        self._brought = await _at(self._home, self._wait_and_read(after))

    async def _wait_and_read(self, after: int) -> Sequence[Event]:
        await self._feed.wait(after)
        return await self._feed.read(after, self._limit)


class HomeCursors:
    """protocols.Cursors for another loop. `held` is the cursor that was taken last."""

    def __init__(self, cursors: Cursors, home: asyncio.AbstractEventLoop) -> None:
        self._cursors = cursors
        self._home = home
        self.held: HomeCursor | None = None

    async def acquire(self, handler: str, *, holder: str, begin: Literal["now", "beginning"]) -> HomeCursor | None:
        """See protocols.Cursors."""
        cursor = await _at(self._home, self._cursors.acquire(handler, holder=holder, begin=begin))
        self.held = None if cursor is None else HomeCursor(cursor, self._home)
        return self.held


class HomeCursor:
    """protocols.Cursor for another loop, whose lease the home loop can keep while that one is blocked."""

    def __init__(self, cursor: Cursor, home: asyncio.AbstractEventLoop) -> None:
        self._cursor = cursor
        self._home = home
        self._renewed_at = home.time()
        self._one_at_a_time = asyncio.Lock()  # used in the home loop only

    @property
    def position(self) -> int:
        """See protocols.Cursor."""
        return self._cursor.position

    async def advance(
        self, position: int, parked: Sequence[Parked] = (), delivered: Sequence[int] = (), *, seen: Seen | None = None
    ) -> None:
        """See protocols.Cursor."""
        await _at(self._home, self._advance(position, parked, delivered, seen))

    async def due(
        self, now: datetime, limit: int, *, by_device: bool, beyond: datetime | None = None
    ) -> Sequence[tuple[Parked, Event]]:
        """See protocols.Cursor."""
        return await _at(self._home, self._cursor.due(now, limit, by_device=by_device, beyond=beyond))

    async def behind(self, device: str, limit: int) -> Sequence[tuple[Parked, Event]]:
        """See protocols.Cursor."""
        return await _at(self._home, self._cursor.behind(device, limit))

    async def waiting_devices(self) -> Sequence[str]:
        """See protocols.Cursor."""
        return await _at(self._home, self._cursor.waiting_devices())

    async def lag(self) -> HandlerLag:
        """See protocols.Cursor."""
        return await _at(self._home, self._cursor.lag())

    async def release(self) -> None:
        """See protocols.Cursor."""
        await _at(self._home, self._cursor.release())

    async def keep(self) -> HandlerLag:
        """Renew the lease in time, from the home loop; return how far the handler is. Raises as `advance`."""
        if self._home.time() > self._renewed_at + LEASE_SECONDS / 3:
            await self._advance(None)
        return await self._cursor.lag()

    async def _advance(
        self,
        position: int | None,
        parked: Sequence[Parked] = (),
        delivered: Sequence[int] = (),
        seen: Seen | None = None,
    ) -> None:
        async with self._one_at_a_time:
            asked = self._home.time()
            to = self._cursor.position if position is None else position
            await self._cursor.advance(to, parked, delivered, seen=seen)
            self._renewed_at = asked


async def _at(home: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Await in the home loop, from another one."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, home))
