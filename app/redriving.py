"""Redrives that take their time: they go on in the server after the request that began them was answered."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime

import structlog

from ingest.errors import StoreUnavailable
from ingest.retrying import Backoff, Pauses, is_cancelled
from storage.dead_letters import Chosen, each_step, give_back
from storage.engine import Database

_STORE_AWAY = Backoff(first=0.5, longest=5.0)

log = structlog.get_logger(__name__)


class BackgroundRedrives:
    """At most one redrive for each handler at a time. What a stop leaves undone stays dead, to be redriven again."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._running: dict[str, asyncio.Task[None]] = {}

    def begin(self, handler: str, chosen: Chosen, rate: float) -> bool:
        """Give the chosen dead letters back, at most `rate` a second; return False where one is going on already."""
        if handler in self._running:
            return False
        fixed = chosen._replace(until=chosen.until or datetime.now(UTC))  # what dies meanwhile is left alone
        task = asyncio.create_task(self._run(handler, fixed, rate), name=f"redrive-{handler}")
        task.add_done_callback(lambda _: self._running.pop(handler))
        self._running[handler] = task
        return True

    async def close(self) -> None:
        """End all of them."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, handler: str, chosen: Chosen, rate: float) -> None:
        """Go on until it is done or cancelled, also when the store was away."""
        redriven, ended = 0, "stopped"
        pauses = Pauses(_STORE_AWAY, random.uniform)
        try:
            while not is_cancelled():
                try:
                    async for count in each_step(self._database, give_back, handler, chosen, rate):
                        redriven += count
                        pauses.reset()
                    ended = "complete"
                    return
                except StoreUnavailable:
                    await asyncio.sleep(pauses.next_seconds())
        except Exception:  # nobody awaits it: the log is where it can be seen
            log.exception("redrive_failed", handler=handler)
        finally:
            log.info("redrive_ended", handler=handler, redriven=redriven, ended=ended)
