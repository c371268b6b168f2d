"""The vendor as a sender: what fails is sent twice more, and a host that fails too often is skipped for a while.

As Particle does it (see its webhook documentation): 20 s for an answer, again after 30 and after 60 s, and no delivery
to a host whose 4xx and 5xx outnumber its 2xx. `python -m tests.support.vendor PLAN` is a process as the driver is.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections import Counter, deque
from urllib.parse import urlsplit

import msgspec
import uvloop

from tests.support.connection import connect
from tests.support.driver import NumberedRequests, Plan, Progress, drive
from tests.support.ledger import Ledger, Report

ANSWER_SECONDS = 20.0
RATED = 20  # the last attempts


class VendorPlan(Plan):
    """`hurry`: by how much the vendor's times are shorter. `rate` is events per second, in the order of numbers."""

    hurry: float = 1.0
    retry_seconds: tuple[float, ...] = (30.0, 60.0)
    skip_seconds: float = 60.0


class Vendor:
    """Sends an event at a time of its own each, whatever became of those before. Skipped ones are never sent."""

    def __init__(self, plan: VendorPlan, ledger: Ledger) -> None:
        self.ledger = ledger
        self.stopping = False
        self._plan = plan
        self._request = NumberedRequests(plan)
        self._address = urlsplit(plan.url)
        self._answers: Counter[str] = Counter()
        self._rating: deque[bool] = deque(maxlen=RATED)
        self._skipped_until = 0.0
        self._began = time.monotonic()

    async def run(self) -> Report:
        """Send until the plan's end, or until it is stopped; then see to the end what is under way."""
        number = 0
        async with asyncio.TaskGroup() as events:
            while not self.stopping and number < self._plan.count:
                events.create_task(self._publish(number))
                number += 1
                await asyncio.sleep(max(0.0, self._began + number / (self._plan.rate or 100) - time.monotonic()))
        return self.report()

    def progress(self) -> Progress:
        """How far it is now."""
        return Progress(self._answers["204"], self._answers["503"])

    async def _publish(self, number: int) -> None:
        for wait_seconds in (0.0, *self._plan.retry_seconds):
            await asyncio.sleep(wait_seconds / self._plan.hurry)
            if time.monotonic() < self._skipped_until:
                self._answers["skipped"] += 1
                return
            self.ledger.sent(number)
            if await self._delivered(number):
                return

    async def _delivered(self, number: int) -> bool:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                connection = await connect(self._address.hostname or "127.0.0.1", self._address.port or 80)
                try:
                    status = await connection.exchange(self._request(number))
                finally:
                    connection.close()
        except OSError:  # refused, reset or too late
            self._answers["failed"] += 1
            return False
        self.ledger.answered(number, 1, status)
        self._answers[str(status)] += 1
        self._rate(200 <= status < 300)
        return 200 <= status < 300

    def _rate(self, delivered: bool) -> None:
        self._rating.append(delivered)
        if len(self._rating) == RATED and self._rating.count(False) > RATED // 2:
            self._skipped_until = time.monotonic() + self._plan.skip_seconds / self._plan.hurry
            self._rating.clear()

    def report(self) -> Report:
        """What it saw so far."""
        return Report(run=self._plan.run, answers=dict(self._answers), seconds=time.monotonic() - self._began)


if __name__ == "__main__":
    gc.disable()
    plan = msgspec.json.decode(sys.argv[1], type=VendorPlan)
    uvloop.run(drive(plan, Vendor(plan, Ledger())))
