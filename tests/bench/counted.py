"""Events of many devices, each of which counts what it sends, in /seq; one of about a thousand numbers does not come.

`python -m tests.bench.counted PLAN` is the load driver with these, as tests.support.driver.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec

from ingest.event import Origin, Record
from ingest.formats.particle import ParticleFormat
from tests.support.driver import Plan, main, request_head

_MIX = 48_271  # a prime: devices of neighbouring events are far apart by name
_LOST = 997  # of so many devices one leaves a number out, each time another
_EVENTS_PER_MILLISECOND = 10
_BODY = (
    rb'{"event":"temperature","data":"{\"run\":\"%s\",\"seq\":%d,\"t\":21.5,\"rh\":48,\"bat\":3.71}",'
    rb'"published_at":"%s%03dZ","coreid":"%s"}'
)


class Counted:
    """The events of one run, by number from 0: all devices in turn, again and again."""

    def __init__(self, run: str, started: datetime, devices: int) -> None:
        self._run = run.encode()
        self._started = started.astimezone(UTC).replace(microsecond=0)
        self._devices = devices
        self._second = functools.lru_cache(8)(self._format_second)

    def batch(self, first: int, size: int) -> bytes:
        """Return `size` events from number `first` as NDJSON."""
        return b"\n".join(self._body(number) for number in range(first, first + size))

    def _body(self, number: int) -> bytes:
        turn, place = divmod(number, self._devices)
        count = turn + (place + turn) // _LOST
        second, millisecond = divmod(number // _EVENTS_PER_MILLISECOND, 1000)
        return _BODY % (self._run, count, self._second(second), millisecond, device_of(place, self._devices))

    def _format_second(self, second: int) -> bytes:
        return (self._started + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S.").encode()


def device_of(place: int, devices: int) -> bytes:
    """Return the id of a device by its place in a turn."""
    return b"e00fce68%016x" % (place * _MIX % devices)


def records(events: int, devices: int, batch: int) -> Iterator[list[Record]]:
    """Yield batches of decoded events of the source `fleet` and the product `tracker`."""
    now = datetime.now(UTC)
    counted, particle = Counted("stored", now, devices), ParticleFormat(Origin("tracker", "fleet", "webhook"), [])
    for first in range(0, events, batch):
        yield list(particle.decode(counted.batch(first, batch), {}, now))


def requests(plan: Plan) -> functools.partial[bytes]:
    """Return what makes the request of a plan whose first event has a number."""
    counted = Counted(plan.run, plan.started, plan.devices)
    return functools.partial(_request, request_head(plan), counted, plan.batch)


def _request(head: bytes, counted: Counted, batch: int, first: int) -> bytes:
    body = counted.batch(first, batch)
    return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


if __name__ == "__main__":
    plan = msgspec.json.decode(sys.argv[1], type=Plan)
    main(plan, requests(plan))
