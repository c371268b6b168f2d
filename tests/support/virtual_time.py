"""An event loop whose clock moves only while everybody waits: an hour of waiting takes no time, whatever else runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from selectors import DefaultSelector, SelectorKey
from typing import Any, ParamSpec

P = ParamSpec("P")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Where nobody has anything to do, it is the time of the next timer. Not for threads and sockets: none is awaited.

    Raises RuntimeError where all wait and there is no timer.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(_Leaping(self.forward))

    def time(self) -> float:
        """See asyncio.AbstractEventLoop."""
        return self.now

    def forward(self, seconds: float) -> None:
        """Let time pass while somebody works."""
        self.now += seconds


class _Leaping(DefaultSelector):
    """Tells how long it was to wait, instead of waiting."""

    def __init__(self, forward: Callable[[float], None]) -> None:
        super().__init__()
        self._forward = forward

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """See selectors.BaseSelector."""
        found = super().select(0)
        if not found:
            if timeout is None:
                raise RuntimeError("all wait for what will never come")
            self._forward(max(timeout, 0.0))
        return found


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test in a VirtualLoop of its own."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


def virtual_loop() -> VirtualLoop:
    """Return the loop of a test in virtual time."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop
