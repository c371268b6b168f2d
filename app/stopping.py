"""SIGTERM and SIGINT: they begin an orderly stop, and end the process in time whatever hangs in it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from queue import SimpleQueue
from types import FrameType
from typing import Protocol

import structlog

# Contract: 25 s after SIGTERM the process is gone; orchestrators kill after 30.
_STOP_SECONDS = 23.0
_SAY_SECONDS = 0.5

log = structlog.get_logger(__name__)


class Stop(Protocol):
    """What begins to stop, in the event loop; `at_once` is without a drain delay."""

    def __call__(self, *, at_once: bool) -> None:
        """Begin, if that was not done yet."""
        ...


def stop_on_signals(stop: Stop) -> None:
    """Call `stop` in the running loop for either signal; 23 s after the first one the process exits with 0.

    A thread counts that time: the event loop may be what hangs, or be over while the interpreter waits for a thread.
    For the same reason the handler is Python's and not the loop's: it runs wherever the main thread runs or sleeps.
    """
    loop = asyncio.get_running_loop()
    signals: SimpleQueue[int] = SimpleQueue()  # made to be put into by a handler, whatever it interrupts
    threading.Thread(target=_exit_in_time, args=(signals,), name="exit-in-time", daemon=True).start()

    def handle(number: int, _frame: FrameType | None) -> None:
        signals.put(number)
        with contextlib.suppress(RuntimeError):  # the loop is over already
            loop.call_soon_threadsafe(lambda: stop(at_once=number == signal.SIGINT))

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)


def _exit_in_time(signals: SimpleQueue[int]) -> None:
    """End without the rest of the drain: the senders of what is not settled get no answer, and will send it again."""
    signals.get()
    time.sleep(_STOP_SECONDS)
    seconds = {"seconds": _STOP_SECONDS}
    saying = threading.Thread(target=log.error, args=("not_drained_in_time",), kwargs=seconds, daemon=True)
    saying.start()
    saying.join(_SAY_SECONDS)  # what hangs may be who reads the log
    os._exit(0)
