"""Runs the work for a handler whose code is the operator's in a loop and a thread of its own, and watches that loop."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import FIRST_COMPLETED
from dataclasses import replace
from typing import Any

import structlog

from app.dispatcher.context import HandlerContext
from app.dispatcher.crossing import HomeCursors, HomeFeed
from app.dispatcher.lease_session import LAST_SAVE_SECONDS
from app.dispatcher.own_loop import OwnLoop
from app.dispatcher.runner import Runner
from app.dispatcher.time_slice import TimeSlice
from ingest.errors import LeaseLost, StoreRewound, StoreUnavailable
from ingest.retrying import is_cancelled, wait_at_most

_BLOCKED_LOOKS = 4  # looks and not seconds: a process that was suspended has blocked nothing
_SAY_LOOKS = 120
_STORE_SECONDS = 2.0
_ANEW_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Apart:
    """As Runner, from the home loop: the handler's code may block, raise or end its own loop, and nothing else.

    While it blocks, the home loop keeps the lease, shows the lag, and says which handler it is and where it stands.
    """

    def __init__(self, context: HandlerContext, holder: str, stopping: asyncio.Event) -> None:
        self._context = context
        self._holder = holder
        self._stopping = stopping
        self._runner: Runner | None = None
        self._unanswered = 0
        self._asked = False

    @property
    def fault(self) -> str | None:
        """Return why the handler is failing where its code is to blame."""
        if self._unanswered >= _BLOCKED_LOOKS:
            return "its code blocks the event loop that it runs in"
        return None if self._runner is None else self._runner.fault

    async def run(self) -> None:
        """Work until stopped; a loop whose work was ended from within is made anew."""
        while not self._stopping.is_set() and not is_cancelled():
            await self._run_once()
        self._runner = None

    async def _run_once(self) -> None:
        context, home = self._context, asyncio.get_running_loop()
        cursors, stopping = HomeCursors(context.cursors, home), asyncio.Event()
        there = replace(context, feed=HomeFeed(context.feed, home), cursors=cursors, time_slice=TimeSlice(home))
        self._runner = runner = Runner(there, self._holder, stopping)
        self._unanswered, self._asked = 0, False
        loop = OwnLoop(f"handler-{context.label}", runner.run)
        done = asyncio.wrap_future(loop.done)
        asked_to_stop: asyncio.Future[Any] = asyncio.create_task(self._stopping.wait())
        try:
            while not done.done() and not self._stopping.is_set():
                await asyncio.wait(
                    (done, asked_to_stop), timeout=context.limits.look_seconds, return_when=FIRST_COMPLETED
                )
                await self._look(loop, cursors)
            loop.call(stopping.set)
            await asyncio.wait([done], timeout=context.limits.drain_seconds + LAST_SAVE_SECONDS)
        except asyncio.CancelledError:
            loop.cancel()
            await asyncio.wait([done], timeout=LAST_SAVE_SECONDS)
            raise
        finally:
            asked_to_stop.cancel()
            self._report(loop, done)
        if not self._stopping.is_set():
            await wait_at_most(self._stopping, _ANEW_SECONDS)

    async def _look(self, loop: OwnLoop, cursors: HomeCursors) -> None:
        """See whether the loop has answered since the last look; do what it cannot do while it is blocked."""
        if not self._asked:
            if self._unanswered >= _BLOCKED_LOOKS:
                log.info("handler_goes_on", handler=self._context.label)
            self._unanswered, self._asked = 0, True
            loop.call(self._answer)
            return
        self._unanswered += 1
        if self._unanswered % _SAY_LOOKS == _BLOCKED_LOOKS:
            log.error("handler_blocks", handler=self._context.label, at=loop.where(), consequence="it delivers nothing")
        if self._unanswered >= _BLOCKED_LOOKS and cursors.held is not None:
            # What goes wrong here the handler's own loop will see.
            with contextlib.suppress(LeaseLost, StoreRewound, StoreUnavailable, TimeoutError):
                async with asyncio.timeout(_STORE_SECONDS):
                    self._context.metrics.show_lag(await cursors.held.keep(), self._context.clock())

    def _answer(self) -> None:
        """Show that the loop runs; called in that loop."""
        self._asked = False

    def _report(self, loop: OwnLoop, done: asyncio.Future[None]) -> None:
        if not done.done():
            log.error("handler_not_stopped", handler=self._context.label, at=loop.where(), consequence="redelivery")
        elif not self._stopping.is_set() and not is_cancelled():
            error = "" if done.cancelled() else repr(done.exception())
            log.error("handler_ended", handler=self._context.label, error=error, consequence="it begins again")
