"""The bare client beside an `http` handler: aiohttp posts requests that lie ready, and does nothing else.

`python -m tests.bench.bare_client URL COUNT CONCURRENCY` prints requests per second, and µs of a core for each.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import aiohttp
import uvloop

from app.handlers.http.bodies import cloudevents
from app.handlers.http.requests import signature
from ingest.event import Event, Origin
from ingest.formats.particle import ParticleFormat
from tests.bench.cost import Measured
from tests.bench.subjects import CHECKOUT
from tests.support.deliveries.receiver import SECRET
from tests.support.numbered import Numbered

Request = tuple[bytes, Mapping[str, str]]


def bare_client(url: str, count: int, concurrency: int) -> Measured:
    """Measure it in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.bare_client", url, str(count), str(concurrency)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=CHECKOUT, timeout=300)
    per_second, micros = map(float, done.stdout.split())
    return Measured(per_second, micros, 0.0)


def requests(count: int) -> Iterator[Request]:
    """Make the requests that an `http` handler sends of so many numbered events."""
    now = datetime.now(UTC)
    numbered = Numbered("bare", now)
    decode = ParticleFormat(Origin("fleet", "fleet", "webhook"), ()).decode
    for number in range(count):
        (event,) = decode(numbered.body(number), {}, now)
        assert isinstance(event, Event)
        content = cloudevents([event])
        timestamp = str(int(now.timestamp()))
        signed = signature([SECRET], content.id, timestamp, content.body)
        stamps = {"webhook-id": content.id, "webhook-timestamp": timestamp, "webhook-signature": signed}
        yield content.body, {**content.headers, "User-Agent": "bare", **stamps}


async def post(url: str, ready: list[Request], concurrency: int) -> None:
    """Post them all."""
    left = iter(ready)
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector, skip_auto_headers=("Accept-Encoding",)) as session:

        async def work() -> None:
            for body, headers in left:
                async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                    assert response.status == 204

        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())


def main(url: str, count: int, concurrency: int) -> None:
    """Post, and print what it took."""
    ready = list(requests(count))
    began, cost = time.perf_counter(), time.process_time()
    uvloop.run(post(url, ready, concurrency))
    taken, spent = time.perf_counter() - began, time.process_time() - cost
    print(count / taken, spent / count * 1e6)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
