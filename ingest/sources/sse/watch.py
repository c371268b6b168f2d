"""Looks at all connections a few times a second: which have caught up, and whether the process itself stood still."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from ingest.event import Cause
from ingest.sources.sse.connection import Connection
from ingest.sources.sse.rules import StreamRules

# A poll of the event loop brings bytes, the next turn wakes their reader, the one after counts the read.
_TURNS = 4
_TRIES = 3  # a byte may come just then, and on a busy stream often does


class Watch:
    """`connections` gives those that are open now; `clock` in seconds, going on while the machine sleeps."""

    def __init__(
        self, connections: Callable[[], Iterable[Connection]], rules: StreamRules, clock: Callable[[], float]
    ) -> None:
        self._connections = connections
        self._rules = rules
        self._clock = clock
        self._due = float("inf")

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self._due = self._clock() + self._rules.tick
            await asyncio.sleep(self._rules.tick)
            self.wake()
            await self.look()

    def wake(self) -> None:
        """Note it where the process was frozen until now. A connection that ends asks too: it may be first to run."""
        now = self._clock()
        if now - self._due > self._rules.frozen:
            self._due = now
            self.thaw(now)

    def thaw(self, now: float) -> None:
        """Note that the process was frozen until now: upstream may have given up on what it had for us."""
        for connection in self._connections():
            if connection.listening is not None and connection.tap is not None:
                connection.listening.hold(now, Cause.DOWN)
                connection.tap.behind(now)

    async def look(self) -> None:
        """Note for each connection what came since the last look, and whether all that has come is read.

        It is, where the reader waited for the network through a whole poll of the event loop. anyio reads from the
        socket only while someone waits in its receive, so the reader's waiting and the socket's being watched are one.
        """
        unsure = list(self._connections())
        for _ in range(_TRIES):
            now = self._clock()
            waiting = [glance for glance in map(self._glance, unsure) if glance is not None]
            if not waiting:
                return
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            for connection, reads in waiting:
                if self._glance(connection) == (connection, reads) and connection.listening is not None:
                    # What had come by then would have been read by now.
                    connection.listening.sample(now, reads, self._rules.latency)
                    unsure.remove(connection)

    def _glance(self, connection: Connection) -> tuple[Connection, int] | None:
        """Take note of what came; return the connection and the number of its reads, where it may be that all has."""
        listening, tap = connection.listening, connection.tap
        if listening is None or tap is None:
            return None
        listening.confirm(tap.reads)
        return (connection, tap.reads) if tap.is_drained(self._rules.behind) and not connection.has_partial else None
