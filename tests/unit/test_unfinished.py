"""Which body gives way when all that are unfinished are too much together."""

from __future__ import annotations

import asyncio

import pytest

from ingest.sources.webhook.unfinished import NoRoom, UnfinishedBodies


class Reader:
    """A task that has read so many bytes of a body, and waits for more until it is told to go on."""

    def __init__(self, bodies: UnfinishedBodies, size: int) -> None:
        self._bodies = bodies
        self._size = size
        self._rest = asyncio.Event()
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> str:
        try:
            with self._bodies.keep() as body:
                self._bodies.resize(body, self._size)
                await self._rest.wait()
        except NoRoom:
            async with asyncio.timeout(10):  # works only where nothing is left of the cancellation
                await asyncio.sleep(0)
            return "no room" if not self.task.cancelling() else "cancelled"
        return "read"

    async def finish(self) -> str:
        """Let its rest come; how it ended."""
        self._rest.set()
        return await self.task


async def begun(bodies: UnfinishedBodies, *sizes: int) -> list[Reader]:
    """Bodies begun one after another."""
    readers = [Reader(bodies, size) for size in sizes]
    for _ in range(5):
        await asyncio.sleep(0)
    return readers


async def test_the_oldest_gives_way() -> None:
    """As many as are needed, and none that would fit."""
    readers = await begun(UnfinishedBodies(100), 40, 10, 50, 45, 5)
    assert [await reader.finish() for reader in readers] == ["no room", "no room", "read", "read", "read"]


async def test_one_that_is_itself_the_oldest_gives_way() -> None:
    """What is more than all the room cannot be kept, and neither can those before it."""
    readers = await begun(UnfinishedBodies(100), 40, 101, 100)
    assert [await reader.finish() for reader in readers] == ["no room", "no room", "read"]


async def test_a_body_that_ended_leaves_its_room() -> None:
    """Read, cancelled or given up, it counts no more."""
    bodies = UnfinishedBodies(100)
    for _ in range(3):
        (read, cancelled) = await begun(bodies, 50, 50)
        assert await read.finish() == "read"
        cancelled.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled.task
        await begun(bodies, 101)
    (last,) = await begun(bodies, 100)
    assert await last.finish() == "read"
