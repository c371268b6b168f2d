"""Handler `python`: calls a function of the operator's with each event. Whatever it raises is a failed delivery."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

from app.settings import HandlerSettings
from ingest.errors import ConfigurationError
from ingest.event import Event
from ingest.ports import Handler


class AsyncHandler:
    """ports.Handler around `async def on_event(event)`."""

    def __init__(self, function: Callable[[Event], Any]) -> None:
        self.deliver = function

    async def close(self) -> None:
        """See ports.Handler."""


class ThreadHandler:
    """ports.Handler around `def on_event(event)`, called in one of `threads` threads.

    A thread cannot be stopped: a call that overruns its timeout counts as failed, and runs on until it returns.
    """

    def __init__(self, function: Callable[[Event], Any], threads: int, label: str) -> None:
        self._function = function
        self._threads = ThreadPoolExecutor(threads, f"handler-{label}")

    async def deliver(self, event: Event) -> None:
        """See ports.Handler."""
        result = await asyncio.get_running_loop().run_in_executor(self._threads, self._call, event)
        if inspect.isawaitable(result):  # a decorator hid that the function is async
            await result

    async def close(self) -> None:
        """See ports.Handler."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _call(self, event: Event) -> Any:
        try:
            return self._function(event)
        except StopIteration as error:  # a future cannot carry it, and would never be done
            raise RuntimeError(f"the handler raised StopIteration({error.value!r})") from error


def build(label: str, settings: HandlerSettings, folder: Path) -> Handler:
    """The handler of `[handlers.<label>]`. Raises ConfigurationError where `call` names no function."""
    function = _function(f"handlers.{label}.call", settings.call, folder)
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        return AsyncHandler(function)
    return ThreadHandler(function, settings.concurrency, label)


def _function(key: str, call: str, folder: Path) -> Callable[[Event], Any]:
    module_name, _, path = call.partition(":")
    with _importable(folder):
        try:
            module = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:  # the module is somebody else's code
            reason = f"{type(error).__name__}: {error}"
            raise ConfigurationError(f"{key}: {module_name} cannot be imported: {reason}") from error
    try:
        function = reduce(getattr, path.split("."), module)
    except AttributeError:
        raise ConfigurationError(f"{key}: {module_name} ({module.__file__}) has no {path}") from None
    if not callable(function):
        raise ConfigurationError(f"{key}: expected a function, and {path} of {module_name} is none")
    return function


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Modules in `folder` are found first."""
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
