"""Being cancelled without a doubt: drivers turn it into errors of their own, and asyncio.wait_for may swallow it."""

from __future__ import annotations

import asyncio


def is_cancelled() -> bool:
    """Whether somebody asked the present task to stop, whatever became of the CancelledError."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def wait_at_most(seconds: float, event: asyncio.Event) -> None:
    """Return when the event is set, or after so many seconds.

    Python 3.11's asyncio.wait_for loses a cancellation that comes together with the event (python/cpython#86296).
    """
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
