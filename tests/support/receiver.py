"""A receiver in virtual time that can be away, and a stage for what delivers to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from app.dispatcher import DispatchLimits
from ingest.delivery import DeliveryFailed, FailureCause, Verdict
from ingest.event import Event
from storage.tables import deliveries
from tests.support.dispatching import NOON, Recorder, Stage, staged
from tests.support.on_the_loop import OnTheLoop
from tests.support.virtual_time import virtual_loop

PACE = DispatchLimits()
_CAUSES = {
    Verdict.OPEN: FailureCause.UNAUTHORIZED,
    Verdict.PAUSE: FailureCause.GONE,
    Verdict.DEAD: FailureCause.REFUSED,
    Verdict.RETRY: FailureCause.SERVER_ERROR,
}


def loop_clock(speed: float = 1.0) -> Callable[[], datetime]:
    """The time of day that goes with the loop's, or so many times as fast."""
    loop = virtual_loop()
    began = loop.time()
    return lambda: NOON + timedelta(seconds=(loop.time() - began) * speed)


@asynccontextmanager
async def on_stage(folder: Path, speed: float = 1.0) -> AsyncIterator[Stage]:
    """An empty store in virtual time."""
    async with staged(OnTheLoop(folder / "test.db"), loop_clock(speed)) as stage:
        yield stage


def refused(verdict: Verdict, status: int = 500, retry_after: float | None = None) -> DeliveryFailed:
    """What a receiver's answer is raised as."""
    return DeliveryFailed(_CAUSES[verdict], verdict, f"answered {status}", status=status, retry_after=retry_after)


class Receiver:
    """A receiver that can be away; it remembers what it was asked to take, and when."""

    def __init__(self, failure: Callable[[], BaseException] = lambda: refused(Verdict.RETRY)) -> None:
        self.away = True
        self.bad: set[int] = set()
        self.asked: list[tuple[float, int]] = []
        self.failure = failure
        self.handler = Recorder(self.take)

    def take(self, event: Event) -> None:
        """Take it or not."""
        self.asked.append((virtual_loop().time(), event.position or 0))
        if self.away or event.position in self.bad:
            raise self.failure()

    def calls(self) -> list[int]:
        """The positions it was asked to take since it was asked last."""
        asked, self.asked = self.asked, []
        return [position for _, position in asked]


async def parked_rows(stage: Stage) -> list[Any]:
    """The parked rows."""
    statement = select(deliveries).order_by(deliveries.c.position)
    return list(await stage.database.read(lambda connection: connection.execute(statement).all()))
