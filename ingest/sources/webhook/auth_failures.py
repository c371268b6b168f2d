"""Requests that were not let in, as the log tells of them: one line a minute, however many strangers knock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from ingest.errors import StoreUnavailable

EVERY_SECONDS = 60.0
_STOP_SECONDS = 1.0

log = structlog.get_logger(__name__)


class AuthFailureLog:
    """Counts them for one source; says how many there were since the last line, and has `tally` add them up."""

    def __init__(
        self, source: str, tally: Callable[[str, int], Awaitable[None]] | None, every: float = EVERY_SECONDS
    ) -> None:
        self._source = source
        self._tally = tally
        self._every = every
        self._count = 0
        self._untold = 0  # to the store
        self._news = asyncio.Event()

    def note(self) -> None:
        """Count one."""
        self._count += 1
        self._news.set()

    async def run(self) -> None:
        """Write until cancelled: the first at once."""
        while True:
            await self._news.wait()
            await self._tell()
            await asyncio.sleep(self._every)

    async def stop(self) -> None:
        """Tell of the last ones; give up where the store takes too long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await self._tell()

    async def _tell(self) -> None:
        self._news.clear()
        count, self._count = self._count, 0
        if not count:
            return
        look_at = f"GET /api/v1/sources/{self._source}/requests"
        log.warning("requests_unauthorized", source=self._source, count=count, look_at=look_at)
        self._untold += count
        if self._tally is not None:
            with suppress(StoreUnavailable):  # then with the next ones
                await self._tally(self._source, self._untold)
                self._untold = 0
