"""SIGTERM and SIGINT begin an orderly stop, and end the process in time whatever hangs in it. SIGHUP ends nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Protocol

import structlog

# Contract: the process is gone 20 s after the drain delay.
_STOP_SECONDS = 18.0
_SAY_SECONDS = 0.5

log = structlog.get_logger(__name__)


class Stop(Protocol):
    """What begins to stop, in the event loop; `at_once` is without a drain delay."""

    def __call__(self, *, at_once: bool) -> None:
        """Begin, if that was not done yet."""
        ...


def outlive_hangups() -> None:
    """Log each SIGHUP and go on, from here on. It will reload the configuration; until then it must not end us."""
    loop = asyncio.get_running_loop()

    def handle(_number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is over already
            loop.call_soon_threadsafe(_say_ignored)

    signal.signal(signal.SIGHUP, handle)


def _say_ignored() -> None:
    log.warning("sighup_ignored", reason="this version does not reload its configuration; restart it")


def stop_on_signals(stop: Stop, drain_seconds: float) -> None:
    """Call `stop` in the running loop for either signal; the process exits with 0 at the `exit_deadline`.

    A thread counts that time: the event loop may be what hangs, or be over while the interpreter waits for a thread.
    For the same reason the handler is Python's and not the loop's: it runs wherever the main thread runs or sleeps.
    """
    loop = asyncio.get_running_loop()
    signals: SimpleQueue[int] = SimpleQueue()  # made to be put into by a handler, whatever it interrupts
    arguments = signals, drain_seconds
    threading.Thread(target=_exit_in_time, args=arguments, name="exit-in-time", daemon=True).start()

    def handle(number: int, _frame: FrameType | None) -> None:
        signals.put(number)
        with contextlib.suppress(RuntimeError):  # the loop is over already
            loop.call_soon_threadsafe(lambda: stop(at_once=number == signal.SIGINT))

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)


def exit_deadline(number: int, now: float, drain_seconds: float) -> float:
    """Return when a process that gets the signal `number` has to be gone, in seconds of the clock of `now`."""
    return now + _STOP_SECONDS + (0.0 if number == signal.SIGINT else drain_seconds)


def _exit_in_time(signals: SimpleQueue[int], drain_seconds: float) -> None:
    """End without the rest of the drain: the senders of what is not settled get no answer, and will send it again."""
    deadline = exit_deadline(signals.get(), time.monotonic(), drain_seconds)
    with contextlib.suppress(Empty):
        while True:  # another signal may cut the drain delay short
            number = signals.get(timeout=max(0.0, min(deadline - time.monotonic(), threading.TIMEOUT_MAX)))
            deadline = min(deadline, exit_deadline(number, time.monotonic(), drain_seconds))
    seconds = {"seconds": _STOP_SECONDS}
    saying = threading.Thread(target=log.error, args=("not_drained_in_time",), kwargs=seconds, daemon=True)
    saying.start()
    saying.join(_SAY_SECONDS)  # what hangs may be who reads the log
    os._exit(0)
