"""One handler's work: takes its cursor, waits for whoever has it, begins again after a fault."""

from __future__ import annotations

import asyncio

import structlog

from app.dispatcher.context import STORE_AWAY, HandlerContext
from app.dispatcher.lease_session import LeaseSession
from ingest.errors import LeaseLost, StoreFault, StoreRewound, StoreUnavailable
from ingest.retrying import Backoff, Pauses, is_cancelled, wait_at_most

_STANDBY_SECONDS = 2.0
# After a fault, other than an outage, delivering again what cannot be saved would be a loop without end.
_SETBACK = Backoff(first=0.2, longest=60.0)

log = structlog.get_logger(__name__)


class Runner:
    """One handler: session after session."""

    def __init__(self, context: HandlerContext, holder: str, stopping: asyncio.Event) -> None:
        self.fault: str | None = None
        self._context = context
        self._holder = holder
        self._stopping = stopping
        self._outages = Pauses(STORE_AWAY, context.random.uniform)
        self._setbacks = Pauses(_SETBACK, context.random.uniform)

    async def run(self) -> None:
        """Work until stopped, then close the handler."""
        try:
            while not self._stopping.is_set() and not is_cancelled():
                await self._survive()
        finally:
            await self._context.handler.close()

    async def _survive(self) -> None:
        """One session, or one try to get one, and a pause where it failed."""
        pauses = self._outages
        try:
            await self._serve()
            return
        except* LeaseLost:
            log.warning("lease_lost", handler=self._context.label)
        except* StoreRewound as group:
            log.warning("handler_rewound", handler=self._context.label, error=str(group.exceptions[0]))
        except* StoreFault as group:
            log.error("cursor_cannot_be_saved", handler=self._context.label, error=str(group.exceptions[0]))
            pauses = self._setbacks
        except* StoreUnavailable as group:
            log.warning("store_unavailable", handler=self._context.label, error=str(group.exceptions[0]))
        except* Exception:  # the other handlers and the ingestion go on; this one begins again at its cursor
            log.exception("handler_interrupted", handler=self._context.label)
            pauses = self._setbacks
        await self._pause(pauses.next_seconds())

    async def _serve(self) -> None:
        context = self._context
        if context.left_behind.is_full():
            await self._give_up()
            return
        asked_at = asyncio.get_running_loop().time()
        cursor = await context.cursors.acquire(context.label, holder=self._holder, begin=context.settings.start)
        if cursor is None:
            await self._pause(context.random.uniform(_STANDBY_SECONDS / 2, _STANDBY_SECONDS))
            return
        waiting = await cursor.waiting_devices()
        self._outages.reset()
        began_at = cursor.position
        try:
            await LeaseSession(context, cursor, waiting, asked_at).run(self._stopping)
        finally:
            if cursor.position > began_at:
                self._setbacks.reset()

    async def _give_up(self) -> None:
        """Fail until the process is started again: any more calls would each cost one more thread for ever."""
        self.fault = (
            f"{self._context.left_behind.calls} calls of its code never returned; it delivers again after a restart"
        )
        log.error("handler_given_up", handler=self._context.label, error=self.fault)
        await self._stopping.wait()

    async def _pause(self, seconds: float) -> None:
        if not is_cancelled():
            await wait_at_most(self._stopping, seconds)
