"""A fleet of simulated devices that posts Particle webhooks over real HTTP, with the faults that real ones have.

Within ten seconds every counter of a source moves: stored, duplicate, ignored, and rejected for many reasons.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import httpx

from app.simulator.device import Device, Hook, Published
from app.simulator.mischief import bad_bodies

_USER_AGENT = "ParticleBot/1.1 (simulated)"
_CONNECTIONS = 8  # the cloud's senders, shared by all devices; the cost of a request grows with their number
_EVENTS_PER_MISCHIEF = 40
_REDELIVERED = 0.02
_REDELIVERY_SECONDS = 0.2
_ATTEMPTS = 3  # the cloud tries again once or twice, then gives up
_BACK_OFF_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 10.0
_TIMEOUT_SECONDS = 20.0  # what Particle grants an answer


def utc_now() -> datetime:
    """The time by which the fleet stamps events."""
    return datetime.now(UTC)


class Fleet:
    """Devices that publish to one webhook URL until cancelled; a server that is away or busy is tried again.

    Each of `elsewhere` is given every event as well, just before its webhook is sent.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        devices: int = 50,
        seed: int = 1,
        *,
        events_per_second: float = 80.0,
        now: Callable[[], datetime] = utc_now,
        elsewhere: Sequence[Callable[[Published], None]] = (),
    ) -> None:
        self._url = url
        self._headers = {"user-agent": _USER_AGENT, **headers}
        self._devices = [Device(number, seed) for number in range(devices)]
        self._random = random.Random(seed)  # noqa: S311 - to look real, not to keep a secret
        self._pace_seconds = devices / events_per_second
        self._mischief_seconds = _EVENTS_PER_MISCHIEF / events_per_second
        self._now = now
        self._elsewhere = elsewhere

    async def run(self) -> None:
        """Publish until cancelled."""
        async with self._client() as client, asyncio.TaskGroup() as tasks:
            for device in self._devices:
                tasks.create_task(self._live(client, device))
            tasks.create_task(self._make_mischief(client))

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            headers=self._headers,
            timeout=_TIMEOUT_SECONDS,
            limits=httpx.Limits(max_connections=_CONNECTIONS),
            trust_env=False,  # a proxy is no way to a server on this machine
        )

    async def _live(self, client: httpx.AsyncClient, device: Device) -> None:
        """One device's life; the cloud redelivers a few of its events a little later."""
        while True:
            await asyncio.sleep(device.pause(self._pace_seconds))
            published = device.publish(self._now())
            for send in self._elsewhere:
                send(published)
            hook = published.hook()
            await self._deliver(client, hook)
            if device.repeats(_REDELIVERED):
                await asyncio.sleep(_REDELIVERY_SECONDS)
                await self._deliver(client, hook)

    async def _make_mischief(self, client: httpx.AsyncClient) -> None:
        """Send one body of each bad kind after the other, then begin again; the first round ends within ten seconds."""
        while True:
            device = self._random.choice(self._devices)
            await self._redeliver_one(client, device)
            for hook in bad_bodies(device.id, self._now()):
                await asyncio.sleep(self._mischief_seconds)
                await self._deliver(client, hook)

    async def _redeliver_one(self, client: httpx.AsyncClient, device: Device) -> None:
        """The same body twice, and not in the stream: a newcomer need not wait for chance to see a redelivery."""
        hook = device.publish(self._now()).hook()
        await self._deliver(client, hook)
        await self._deliver(client, hook)

    async def _deliver(self, client: httpx.AsyncClient, hook: Hook) -> None:
        """HandlerContext a hook as the cloud does: what is not accepted, or not answered, is tried a few times."""
        for attempt in range(_ATTEMPTS):
            wait = await self._post(client, hook, attempt)
            if wait is None:
                return
            await asyncio.sleep(wait)

    async def _post(self, client: httpx.AsyncClient, hook: Hook, attempt: int) -> float | None:
        """Seconds to wait before the next attempt; None where the answer is final."""
        back_off = self._random.uniform(0.5, 1.0) * _BACK_OFF_SECONDS * 4.0**attempt
        try:
            answer = await client.post(self._url, content=hook.body, headers=hook.headers)
        except httpx.TransportError:
            return min(back_off, _LONGEST_WAIT_SECONDS)
        if answer.status_code not in {429, 503}:
            return None
        asked = answer.headers.get("retry-after", "")
        return min(back_off + (float(asked) if asked.isdigit() else 0.0), _LONGEST_WAIT_SECONDS)
