"""Requests that were not let in, as the log tells of them: one line a minute, however many strangers knock."""

from __future__ import annotations

import asyncio

import structlog

EVERY_SECONDS = 60.0

log = structlog.get_logger(__name__)


class AuthFailureLog:
    """Counts them for one source, and says how many there were since the last line."""

    def __init__(self, source: str, every: float = EVERY_SECONDS) -> None:
        self._source = source
        self._every = every
        self._count = 0
        self._news = asyncio.Event()

    def note(self) -> None:
        """Count one."""
        self._count += 1
        self._news.set()

    async def run(self) -> None:
        """Write until cancelled: the first at once."""
        while True:
            await self._news.wait()
            self._news.clear()
            count, self._count = self._count, 0
            log.warning(
                "requests_unauthorized",
                source=self._source,
                count=count,
                look_at=f"GET /api/v1/sources/{self._source}/requests",
            )
            await asyncio.sleep(self._every)
