"""The load driver: numbered events at full speed, or at a steady rate, and a ledger of every answer.

`python -m tests.support.driver PLAN` with the plan as JSON is a process of its own: it prints its progress as JSON
lines, stops on SIGTERM, and leaves `<run>.ledger` and `<run>.report.json` in the plan's folder.
"""

from __future__ import annotations

import asyncio
import gc
import random
import signal
import sys
import time
from array import array
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import msgspec
import uvloop

from tests.support.connection import Connection, connect
from tests.support.ledger import Ledger, Report
from tests.support.numbered import Numbered

PROGRESS_SECONDS = 0.05
RESEND_SECONDS = 0.05
RECONNECT_SECONDS = 0.05
STOP_SECONDS = 5.0


class Plan(msgspec.Struct, kw_only=True):
    """What to send. It ends at `seconds`, after `count` events, or on SIGTERM, whichever is first."""

    url: str
    run: str
    started: datetime
    folder: str
    seconds: float = 3600.0
    count: int = 1 << 40
    connections: int = 64
    batch: int = 1  # events in a request: more than one is NDJSON
    rate: float | None = None  # requests per second, open loop; None is as fast as answers come
    redeliver: float = 0.0  # this share of acknowledged requests is sent once more
    numbers: list[int] | None = None  # exactly these, instead of 0, 1, 2, …
    devices: int = 1000
    as_object: bool = False  # data is a JSON object, not a string that holds one
    headers: dict[str, str] = {}


class Progress(msgspec.Struct):
    """How far it is: requests by answer."""

    acknowledged: int
    deferred: int


class NumberedRequests:
    """Requests of a plan with numbered events."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._events = Numbered(plan.run, plan.started, plan.devices)
        self._head = request_head(plan)

    def __call__(self, first: int) -> bytes:
        """Return the request whose first event has this number."""
        body = self._events.batch(first, self._plan.batch, as_object=self._plan.as_object)
        return b"%bContent-Length: %d\r\n\r\n%b" % (self._head, len(body), body)


class Driver:
    """Sends what a plan says over its connections. Times are of `time.monotonic`.

    `request` makes the request whose first event has a number; numbered events are sent where none is given.
    """

    def __init__(self, plan: Plan, ledger: Ledger, request: Callable[[int], bytes] | None = None) -> None:
        self.ledger = ledger
        self.stopping = False
        self._plan = plan
        self._request = request or NumberedRequests(plan)
        self._address = urlsplit(plan.url)
        self._answers: Counter[str] = Counter()
        self._latencies = array("d")
        self._cut_sent_at: list[float] = []
        self._unreachable = self._turn = 0
        self._random = random.Random(plan.run)
        self._began = self._ended = 0.0

    async def run(self) -> Report:
        """Send until the plan's end."""
        self._began = self._ended = time.monotonic()
        async with asyncio.timeout(None) as patience, asyncio.TaskGroup() as lanes:
            for _ in range(self._plan.connections):
                lanes.create_task(self._lane())
            lanes.create_task(self._watch(patience))
        return self.report()

    def progress(self) -> Progress:
        """How far it is now."""
        return Progress(self._answers["204"], self._answers["503"])

    async def _watch(self, patience: asyncio.Timeout) -> None:
        """End the run in time; a server that no longer answers is given up a little later."""
        while not self.stopping and not self._exhausted():
            await asyncio.sleep(0.01)
            self.stopping |= time.monotonic() - self._began > self._plan.seconds
        patience.reschedule(asyncio.get_running_loop().time() + STOP_SECONDS)

    async def _lane(self) -> None:
        """One connection's worth of load."""
        connection: Connection | None = None
        while not self.stopping and not self._exhausted():
            due = self._due()
            first, self._turn = self._turn, self._turn + 1
            if due > time.monotonic():
                await asyncio.sleep(due - time.monotonic())
            number = self._plan.numbers[first] if self._plan.numbers else first * self._plan.batch
            connection = await self._deliver(connection, number, due)
            if connection is not None and self._random.random() < self._plan.redeliver:
                connection = await self._deliver(connection, number, time.monotonic())
        if connection is not None:
            connection.close()

    def _exhausted(self) -> bool:
        numbers = self._plan.numbers
        return self._turn >= len(numbers) if numbers is not None else self._turn * self._plan.batch >= self._plan.count

    def _due(self) -> float:
        """When the next request should go out. Latency counts from here, so a late start is not omitted."""
        return time.monotonic() if self._plan.rate is None else self._began + self._turn / self._plan.rate

    async def _deliver(self, connection: Connection | None, first: int, due: float) -> Connection | None:
        """Send a request until it is cut or its answer is not 503; the connection, while there is one."""
        size = self._plan.batch
        request = self._request(first)
        while (connection := await self._usable(connection)) is not None:
            self.ledger.sent(first, size)
            sent_at = time.monotonic()
            try:
                status = await connection.exchange(request)
            except ConnectionError:
                self._cut_sent_at.append(sent_at)
                await asyncio.sleep(RECONNECT_SECONDS)
                return None
            self._note(first, status, due, connection.head)
            if status != 503 or self.stopping:
                return connection
            await asyncio.sleep(RESEND_SECONDS)
            due = time.monotonic()
        return None

    def _note(self, first: int, status: int, due: float, head: bytes) -> None:
        self.ledger.answered(first, self._plan.batch, status)
        self._ended = time.monotonic()
        self._latencies.append(self._ended - due)
        self._answers[str(status)] += 1
        if status == 503 and b"\r\nretry-after:" not in head:
            self._answers["503 without Retry-After"] += 1

    async def _usable(self, connection: Connection | None) -> Connection | None:
        """The connection, or a fresh one where the server closed it between two requests, as it may."""
        if connection is not None and connection.usable:
            return connection
        if connection is not None:
            connection.close()
        return await self._reach()

    async def _reach(self) -> Connection | None:
        """A connection, however long that takes; None once it is time to stop."""
        while not self.stopping:
            try:
                return await connect(self._address.hostname or "127.0.0.1", self._address.port or 80)
            except OSError:
                self._unreachable += 1
                await asyncio.sleep(RECONNECT_SECONDS)
        return None

    def report(self) -> Report:
        """What it saw so far."""
        seconds = max(self._ended - self._began, 1e-9)
        latencies = sorted(self._latencies) or [0.0]
        return Report(
            run=self._plan.run,
            answers=dict(self._answers),
            cut_sent_at=self._cut_sent_at,
            unreachable=self._unreachable,
            seconds=seconds,
            rate=len(self._latencies) / seconds,
            events_per_second=self._answers["204"] * self._plan.batch / seconds,
            p50=latencies[len(latencies) // 2],
            p99=latencies[len(latencies) * 99 // 100],
            slowest=latencies[-1],
        )


def request_head(plan: Plan) -> bytes:
    address = urlsplit(plan.url)
    content_type = "application/json" if plan.batch == 1 else "application/x-ndjson"
    headers = {"Host": address.netloc, "Content-Type": content_type, **plan.headers}
    lines = [f"POST {address.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "".join(f"{line}\r\n" for line in lines).encode()


def main(plan: Plan, request: Callable[[int], bytes] | None = None) -> None:
    """Send, in this process."""
    gc.disable()  # a pause of the driver must not be read as one of the server
    uvloop.run(drive(plan, Driver(plan, Ledger(), request)))


class Sender(Protocol):
    """What sends by a plan."""

    ledger: Ledger
    stopping: bool

    async def run(self) -> Report:
        """Send until the plan's end, or until `stopping`. Raises TimeoutError where that takes too long."""
        ...

    def report(self) -> Report:
        """What it saw so far."""
        ...

    def progress(self) -> Progress:
        """How far it is now."""
        ...


async def drive(plan: Plan, driver: Sender) -> None:
    """Run a sender, and leave what it saw in the plan's folder."""
    folder = Path(plan.folder)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, setattr, driver, "stopping", True)
    telling = loop.create_task(_tell(driver))
    try:
        report = await driver.run()
    except TimeoutError:
        report = driver.report()
    telling.cancel()
    driver.ledger.write(folder / f"{plan.run}.ledger")
    (folder / f"{plan.run}.report.json").write_bytes(msgspec.json.encode(report))


async def _tell(driver: Sender) -> None:
    while True:
        sys.stdout.buffer.write(msgspec.json.encode(driver.progress()) + b"\n")
        sys.stdout.buffer.flush()
        await asyncio.sleep(PROGRESS_SECONDS)


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Plan))
