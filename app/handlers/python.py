"""Handler `python`: calls a function of the operator's with events. Whatever it raises is a failed delivery."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ClassVar, Literal

import msgspec
from pydantic import field_validator

from app.handlers.callables import find_function, is_async, is_beside, require_run
from ingest.event import Event
from ingest.protocols import Handler
from ingest.settings.handlers import HandlerSettings

Returned = tuple[Any, BaseException | None]

_CALL = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


class AsyncHandler:
    """protocols.Handler around `async def on_event(event)`, or, `in_batches`, of a list of events."""

    def __init__(self, function: Callable[[Any], Any], *, in_batches: bool = False) -> None:
        self._function = function
        self._in_batches = in_batches

    async def deliver(self, events: Sequence[Event]) -> None:
        """See protocols.Handler."""
        for argument in _arguments(events, self._in_batches):
            result = await self._function(argument)
            if result is not None:
                await _finish(result)

    async def close(self) -> None:
        """See protocols.Handler."""


class ThreadHandler:
    """protocols.Handler around a plain function, as AsyncHandler, called in a thread for each call at a time.

    A thread cannot be stopped: a call that is cancelled lasts until it has returned, and is cancelled then. The threads
    do not keep the process alive.
    """

    def __init__(self, function: Callable[[Any], Any], label: str, *, in_batches: bool = False) -> None:
        self._function = function
        self._in_batches = in_batches
        self._name = f"handler-{label}-call"
        self._idle: list[_Caller] = []

    async def deliver(self, events: Sequence[Event]) -> None:
        """See protocols.Handler."""
        for argument in _arguments(events, self._in_batches):
            await self._call(argument)

    async def close(self) -> None:
        """See protocols.Handler."""
        while self._idle:
            self._idle.pop().close()

    async def _call(self, argument: Any) -> None:
        caller = self._idle.pop() if self._idle else _Caller(self._function, self._name)
        returned = caller.call(argument)
        cancelled = False
        while not returned.done():
            try:
                await asyncio.wait((returned,))
            except asyncio.CancelledError:
                cancelled = True
        self._idle.append(caller)
        result, error = returned.result()
        if cancelled:
            raise asyncio.CancelledError
        if error is not None:
            raise error
        if result is not None:
            await _finish(result)


class _Caller:
    """A thread that makes one call after another."""

    def __init__(self, function: Callable[[Any], Any], name: str) -> None:
        self._function = function
        self._calls: SimpleQueue[tuple[Any, asyncio.Future[Returned]] | None] = SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def call(self, argument: Any) -> asyncio.Future[Returned]:
        """Begin a call; the future has what it returned, or what it raised."""
        returned: asyncio.Future[Returned] = asyncio.get_running_loop().create_future()
        self._calls.put((argument, returned))
        return returned

    def close(self) -> None:
        """Let the thread end."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            argument, future = call
            returned = self._call(argument)
            with contextlib.suppress(RuntimeError):  # the loop is over, and nobody waits
                future.get_loop().call_soon_threadsafe(future.set_result, returned)
            del call, argument, future, returned

    def _call(self, argument: Any) -> Returned:
        try:
            return self._function(argument), None
        except StopIteration as error:  # raised in a coroutine it would be an error without its value
            return None, RuntimeError(f"the handler raised StopIteration({error.value!r})")
        except BaseException as error:  # somebody else's code: whatever it raises is told to whoever waits
            return None, error


class PythonSettings(HandlerSettings):
    """`type = "python"`: `call` is "module:function"."""

    runs_apart: ClassVar[bool] = True

    type: Literal["python"] = "python"
    call: str

    def build(self, label: str, folder: Path) -> Handler:
        """See HandlerSettings. Raises ConfigurationError where `call` names no function of one event."""
        function = find_function(f"handlers.{label}.call", self.call, folder)
        in_batches = self.batch.events > 1
        if is_async(function):
            return AsyncHandler(function, in_batches=in_batches)
        return ThreadHandler(function, label, in_batches=in_batches)

    def is_checked_always(self, folder: Path) -> bool:
        """See HandlerSettings. A module beside the configuration file is; elsewhere it may be of another machine."""
        return is_beside(self.call, folder)

    @field_validator("call")
    @classmethod
    def _names_a_function(cls, call: str) -> str:
        if not _CALL.fullmatch(call):
            raise ValueError('expected "module:function"')
        return call


def _arguments(events: Sequence[Event], in_batches: bool) -> Sequence[Any]:
    """Return what to call a function with, one call after another."""
    own = [_own(event) for event in events]
    return [own] if in_batches else own


def _own(event: Event) -> Event:
    """Copy an event for one handler's code, which may write into its attributes."""
    return msgspec.structs.replace(event, attributes=dict(event.attributes))


async def _finish(result: Any) -> None:
    """Await what a function returned where a decorator hid that it is async. Raises TypeError for a generator."""
    while inspect.isawaitable(result):
        result = await result
    require_run(result)
