"""What connections meet instead of a stream, for a number of them or for a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.support.upstream.rules import Kind


@dataclass(slots=True)
class Door:
    """One obstacle; `left` is how many connections it still meets."""

    kind: Kind
    retry_after: str | None
    left: int
    until: float | None = None


class Doors:
    """The obstacle of the moment, by a monotonic clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._door: Door | None = None

    def put(self, door: Door, seconds: float) -> None:
        """It stands for `seconds`, or, where that is 0, until it was met as often as it says."""
        door.until = self._clock() + seconds if seconds else None
        self._door = door

    def next(self) -> Door | None:
        """What the next connection meets; None is a stream."""
        door = self._door
        if door is None:
            return None
        if door.until is not None:
            if self._clock() < door.until:
                return door
            self._door = None
            return None
        door.left -= 1
        if door.left <= 0:
            self._door = None
        return door
