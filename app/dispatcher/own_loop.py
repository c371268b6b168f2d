"""An event loop in a thread of its own, for code that may block, or end the loop that it runs in."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import structlog
import uvloop

_LAST_SECONDS = 1.0

log = structlog.get_logger(__name__)


class OwnLoop:
    """Runs one coroutine in a new loop and a new thread, which never keeps the process alive.

    `done` is done when the coroutine is; then what else was started in the loop is cancelled.
    """

    def __init__(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.done: Future[None] = Future()
        self.done.set_running_or_notify_cancel()
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._work, args=(work,), name=name, daemon=True)
        self._task: asyncio.Task[None] | None = None
        self._thread.start()

    def call(self, function: Callable[[], object]) -> None:
        """Call a function in the loop, as soon as it is free; not at all where it is over."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    def cancel(self) -> None:
        """Cancel the coroutine."""
        self.call(lambda: self._task and self._task.cancel())

    def where(self) -> str:
        """Return the file and line of what the thread does at this moment."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "" if frame is None else f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"

    def _work(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        self._task = task = loop.create_task(work())
        task.add_done_callback(lambda _: loop.stop())
        while not task.done():
            self._go_on()
        others = asyncio.all_tasks(loop)
        for other in others:
            other.cancel()
        if others:
            loop.create_task(asyncio.wait(others, timeout=_LAST_SECONDS)).add_done_callback(lambda _: loop.stop())
            self._go_on()
        if not asyncio.all_tasks(loop):
            loop.close()
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self.done.set_result(None) if error is None else self.done.set_exception(error)

    def _go_on(self) -> None:
        """Run the loop until somebody stops it. What is ready in a loop that an exception ended is there still."""
        try:
            self._loop.run_forever()
        except BaseException as error:  # a task of somebody else's code called sys.exit(), which ends any loop
            log.error("loop_ended", thread=self._thread.name, error=repr(error))
