"""Looks at all connections a few times a second: which have caught up, and whether the process itself stood still."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from ingest.stream.connection import Connection
from ingest.stream.listening import Listening
from ingest.stream.tap import Tap

TICK_SECONDS = 0.2
FROZEN_SECONDS = 5.0  # as long as that, upstream may have given up on what it had for us
# A poll of the event loop brings bytes, the next turn wakes their reader, the one after counts the read.
_TURNS = 4


class Watch:
    """`connections` gives those that are open now; `clock` in seconds, going on while the machine sleeps."""

    def __init__(self, connections: Callable[[], Iterable[Connection]], clock: Callable[[], float]) -> None:
        self._connections = connections
        self._clock = clock

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            due = self._clock() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            now = self._clock()
            if now - due > FROZEN_SECONDS:
                self.thaw(now)
            await self.look()

    def thaw(self, now: float) -> None:
        """The process was frozen until now."""
        for connection in self._connections():
            if connection.listening is not None and connection.tap is not None:
                connection.listening.hold(now)
                connection.tap.behind(now)

    async def look(self) -> None:
        """Note for each connection what came since the last look, and whether all that has come is read.

        It is, where the reader waited for the network through a whole poll of the event loop. anyio reads from the
        socket only while someone waits in its receive, so the reader's waiting and the socket's being watched are one.
        """
        now = self._clock()
        waiting: list[tuple[Connection, Listening, Tap, int]] = []
        for connection in self._connections():
            listening, tap = connection.listening, connection.tap
            if listening is not None and tap is not None:
                listening.heard(tap.reads)
                if tap.is_drained and not connection.has_partial:
                    waiting.append((connection, listening, tap, tap.reads))
        if not waiting:
            return
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        for connection, listening, tap, reads in waiting:
            if tap.reads == reads and tap.is_drained and not connection.has_partial:
                listening.looked(now, reads)  # what had come by then would have been read by now
