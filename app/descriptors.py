"""Keeps descriptors for those who speak: where they run short, the connection that was idle for longest is closed."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Collection
from typing import Protocol

_LARGEST_RESERVE = 512  # descriptors that are left to the store, handlers, streams, and connections not accepted yet
_FRESH_SECONDS = 1.0


class ServedConnection(Protocol):
    """A connection that can be idle."""

    transport: asyncio.Transport

    @property
    def idle(self) -> tuple[bool, float] | None:
        """Return whether it waits for the rest of a body (not of a head) and since when; None if it does not wait.

        By the loop's clock.
        """
        ...


def make_room(connections: Collection[ServedConnection]) -> None:
    """Cut the longest idle connection where there are more than two thirds of the descriptors, or all but 512.

    One in the middle of a body goes only where no other is idle but newcomers, who may be about to speak.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or len(connections) <= limit - min(limit // 3, _LARGEST_RESERVE):
        return
    fresh = asyncio.get_running_loop().time() - _FRESH_SECONDS
    idle = [
        (waits[0] or waits[1] > fresh, waits[1], id(one), one.transport)  # in a body, or a newcomer; since when
        for one in connections
        if (waits := one.idle) is not None and not one.transport.is_closing()
    ]
    if idle:
        min(idle)[-1].abort()
