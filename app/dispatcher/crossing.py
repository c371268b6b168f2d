"""The ways from a handler's own loop to the home loop, which has database and feed: a hop for a batch of events."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence, Set
from datetime import datetime
from typing import Any, Literal, TypeVar

from ingest.deliveries import LEASE_SECONDS, Circuit, HandlerLag, Parked, Pause, Seen
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

    async def pause(self, handler: str, because: str) -> None:
        """See protocols.Cursors."""
        await _at(self._home, self._cursors.pause(handler, because))

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
        self._saved_ahead: Sequence[tuple[int, int]] = ()
        self._one_at_a_time = asyncio.Lock()  # used in the home loop only

    @property
    def position(self) -> int:
        """See protocols.Cursor."""
        return self._cursor.position

    @property
    def ahead(self) -> Set[int]:
        """See protocols.Cursor."""
        return self._cursor.ahead

    @property
    def pause(self) -> Pause | None:
        """See protocols.Cursor."""
        return self._cursor.pause

    @property
    def wanted_elsewhere(self) -> bool:
        """See protocols.Cursor."""
        return self._cursor.wanted_elsewhere

    @property
    def deaths(self) -> Mapping[int, int] | None:
        """See protocols.Cursor."""
        return self._cursor.deaths

    async def advance(
        self,
        position: int,
        parked: Sequence[Parked] = (),
        delivered: Sequence[int] = (),
        *,
        seen: Seen | None = None,
        unmatched: int = 0,
        skipped: int = 0,
        ahead: Sequence[tuple[int, int]] = (),
    ) -> None:
        """See protocols.Cursor."""
        await _at(self._home, self._advance(position, parked, delivered, seen, unmatched, skipped, ahead))

    async def mark(self, position: int | None) -> None:
        """See protocols.Cursor."""
        await _at(self._home, self._cursor.mark(position))

    async def show_circuit(self, circuit: Circuit) -> None:
        """See protocols.Cursor."""
        await _at(self._home, self._cursor.show_circuit(circuit))

    async def due(
        self, now: datetime, limit: int, *, by_device: bool, beyond: datetime | None = None
    ) -> Sequence[tuple[Parked, Event]]:
        """See protocols.Cursor."""
        return await _at(self._home, self._cursor.due(now, limit, by_device=by_device, beyond=beyond))

    async def behind(self, devices: Sequence[str], limit: int) -> Mapping[str, Sequence[tuple[Parked, Event]]]:
        """See protocols.Cursor."""
        return await _at(self._home, self._cursor.behind(devices, limit))

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
            await self._advance(self._cursor.position, ahead=self._saved_ahead)
        return await self._cursor.lag()

    async def _advance(
        self,
        position: int,
        parked: Sequence[Parked] = (),
        delivered: Sequence[int] = (),
        seen: Seen | None = None,
        unmatched: int = 0,
        skipped: int = 0,
        ahead: Sequence[tuple[int, int]] = (),
    ) -> None:
        async with self._one_at_a_time:
            asked = self._home.time()
            await self._cursor.advance(
                position, parked, delivered, seen=seen, unmatched=unmatched, skipped=skipped, ahead=ahead
            )
            self._renewed_at, self._saved_ahead = asked, ahead


async def _at(home: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Await in the home loop, from another one."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, home))
