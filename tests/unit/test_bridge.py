"""Messages cross from the client's threads to the loop, and the client's end waits for what was taken; real threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

from ingest.sources.pubsub.bridge import Bridge


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def a_bridge(drain_timeout: float = 5.0, clock: Callable[[], float] = time.monotonic) -> Bridge:
    """A bridge into the running loop."""
    return Bridge(asyncio.get_running_loop(), drain_timeout, clock)


async def enqueue(bridge: Bridge, *messages: Any) -> None:
    """As the client does it, from a thread of its own."""

    def lay() -> None:
        for message in messages:
            bridge.schedule(bridge.enqueue, message)

    await asyncio.to_thread(lay)


async def test_what_many_threads_lay_down_is_taken_once_and_in_each_ones_order() -> None:
    """Nothing is lost or doubled between the threads and the loop."""
    bridge = a_bridge()

    def lay(thread: int) -> None:
        for number in range(2000):
            bridge.enqueue((thread, number))

    threads = [threading.Thread(target=lay, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    taken: list[Any] = []
    async with asyncio.timeout(20):
        while len(taken) < 8000:
            taken += (await bridge.next_batch()).messages
    for thread in threads:
        thread.join()

    assert [n for _, n in sorted(taken)] == list(range(2000)) * 4
    assert all([n for t, n in taken if t == thread] == list(range(2000)) for thread in range(4))


async def test_taking_waits_for_a_first_message_and_takes_all_there_are() -> None:
    """No message is left lying while the loop sleeps."""
    bridge = a_bridge()
    taking = asyncio.create_task(bridge.next_batch())
    await asyncio.wait([taking], timeout=0.05)
    assert not taking.done()
    await enqueue(bridge, "a")
    assert list((await taking).messages) == ["a"]

    await enqueue(bridge, "b", "c")
    assert list((await bridge.next_batch()).messages) == ["b", "c"]


async def test_the_end_waits_until_what_was_taken_is_settled() -> None:
    """Batch by batch and message by message, from any thread."""
    bridge = a_bridge()
    await enqueue(bridge, "a", "b", "c")
    batch = await bridge.next_batch()
    await enqueue(bridge, "d")
    another = await bridge.next_batch()
    ending = asyncio.create_task(asyncio.to_thread(bridge.shutdown))

    await asyncio.to_thread(bridge.settled, batch, 2)
    bridge.settled(another, 1)
    await asyncio.wait([ending], timeout=0.1)
    assert not ending.done()
    await asyncio.to_thread(bridge.settled, batch, 1)
    async with asyncio.timeout(5):
        assert await ending == []


async def test_the_end_waits_only_so_long() -> None:
    """What is never settled does not hold the process up."""
    bridge = a_bridge(drain_timeout=0.05)
    await enqueue(bridge, "a")
    await bridge.next_batch()
    async with asyncio.timeout(5):
        assert await asyncio.to_thread(bridge.shutdown) == []


async def test_what_was_not_taken_goes_back() -> None:
    """After `close` nothing is taken, and the end gives back what lay there and what came since."""
    bridge = a_bridge()
    await enqueue(bridge, "a", "b")
    bridge.close()
    await enqueue(bridge, "c")
    assert list((await bridge.next_batch()).messages) == []
    assert await asyncio.to_thread(bridge.shutdown) == ["a", "b", "c"]


async def test_what_comes_after_a_close_wakes_nobody() -> None:
    """A loop that has closed the bridge has nothing to do for it."""
    bridge = a_bridge()
    bridge.close()
    await enqueue(bridge, "a")
    taking = asyncio.create_task(bridge.next_batch())
    await asyncio.wait([taking], timeout=0.05)
    assert not taking.done()
    taking.cancel()
    assert await asyncio.to_thread(bridge.shutdown) == ["a"]


async def test_the_age_is_that_of_the_oldest_message_here() -> None:
    """From when it was laid down until it is settled, whoever is settled before it."""
    clock = Clock()
    bridge = a_bridge(clock=clock)
    assert bridge.age() == 0.0
    await enqueue(bridge, "a")
    clock.now += 1
    first = await bridge.next_batch()
    await enqueue(bridge, "b")
    second = await bridge.next_batch()
    clock.now += 2

    assert bridge.age() == 3.0
    bridge.settled(first, 1)
    assert bridge.age() == 2.0
    clock.now += 1
    bridge.settled(second, 1)
    assert bridge.age() == 0.0
    assert bridge.settled_at == clock.now


async def test_the_age_counts_what_comes_after_a_close_from_then() -> None:
    """It was never seen before."""
    clock = Clock()
    bridge = a_bridge(clock=clock)
    bridge.close()
    await enqueue(bridge, "a")
    clock.now += 1
    assert bridge.age() == 1.0
