"""The messages of one client: offered to the inbox, and acknowledged when all that they say is committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from google.cloud.pubsub_v1.subscriber.message import Message as Delivery

from ingest.decoding import AT_ONCE_BYTES, DecodingThread
from ingest.errors import TooLarge
from ingest.event import Origin, Outcome, Reason, Record, Reject
from ingest.formats.message import Message
from ingest.protocols import Intake, MessageFormat
from ingest.sources.pubsub.bridge import Batch, Bridge

_AT_ONCE = 200  # messages decoded before others have their turn in the event loop
_KEPT_BYTES = 64 * 1024  # of a message that is more than the inbox holds


class _Offered(NamedTuple):
    """Messages that were offered together, how many records each has, and their outcomes to come."""

    batch: Batch
    deliveries: Sequence[Delivery]
    counts: Sequence[int]
    settled: asyncio.Future[Sequence[Outcome]]


@dataclass(frozen=True, slots=True)
class Feeding:
    """From the bridge to the inbox, and the outcomes back.

    `heard` is told when messages came, `not_acknowledged` of each acknowledgement that failed (in any thread).
    """

    bridge: Bridge
    origin: Origin
    format: MessageFormat
    intake: Intake
    now: Callable[[], datetime]
    heard: Callable[[], None]
    not_acknowledged: Callable[[], None]
    thread: DecodingThread = field(default_factory=DecodingThread)
    offering: asyncio.Lock = field(default_factory=asyncio.Lock)  # held while taken messages wait for room
    offered: asyncio.Queue[_Offered] = field(default_factory=asyncio.Queue)

    async def run(self) -> None:
        """Offer every message, and acknowledge it when it is committed, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._offer_all())
            tasks.create_task(self._acknowledge_all())

    async def _offer_all(self) -> None:
        while True:
            batch = await self.bridge.next_batch()
            if batch.messages:
                self.heard()
            async with self.offering:
                for start in range(0, len(batch.messages), _AT_ONCE):
                    await self._offer(batch, batch.messages[start : start + _AT_ONCE])
                    await asyncio.sleep(0)

    async def _acknowledge_all(self) -> None:
        while True:
            offered = await self.offered.get()
            self._acknowledge(offered, await offered.settled)

    async def _offer(self, batch: Batch, deliveries: Sequence[Delivery]) -> None:
        """Offer what these say; in halves, where it is more than the inbox can ever hold."""
        try:
            await self._offer_decoded(batch, deliveries, [await self._decode(delivery) for delivery in deliveries])
        except TooLarge:
            middle = len(deliveries) // 2
            if middle:
                await self._offer(batch, deliveries[:middle])
                await self._offer(batch, deliveries[middle:])
            else:
                await self._offer_what_fits(batch, deliveries)

    async def _offer_what_fits(self, batch: Batch, deliveries: Sequence[Delivery]) -> None:
        """Offer one message as a reject: whole, its beginning, or that it came, as far as the inbox could hold it."""
        (delivery,) = deliveries
        attributes = dict(delivery.attributes)
        for body in (delivery.data, delivery.data[:_KEPT_BYTES]):
            with suppress(TooLarge):
                await self._offer_decoded(batch, deliveries, [[self._too_large(body, attributes)]])
                return
        await self._offer_decoded(batch, deliveries, [[self._too_large(b"", None)]])

    async def _offer_decoded(
        self, batch: Batch, deliveries: Sequence[Delivery], decoded: Sequence[Sequence[Record]]
    ) -> None:
        records = [record for records in decoded for record in records]
        settled = await self.intake.offer(records)
        self.offered.put_nowait(_Offered(batch, deliveries, list(map(len, decoded)), settled))

    def _acknowledge(self, offered: _Offered, outcomes: Sequence[Outcome]) -> None:
        """Acknowledge each message whose records are all committed.

        What is deferred, because we stop while the store is away, is neither acknowledged nor given back: it comes
        again when its lease is over, and by then the store may be there.
        """
        remaining = iter(outcomes)
        settled = 0
        for delivery, count in zip(offered.deliveries, offered.counts, strict=True):
            if Outcome.DEFERRED in tuple(islice(remaining, count)):
                delivery.drop()
                settled += 1
                continue
            acknowledged = delivery.ack_with_response()  # done at once, unless the subscription is exactly-once
            if acknowledged.done():
                settled += 1
            else:
                acknowledged.add_done_callback(partial(self._acknowledged, offered.batch))
        self.bridge.settled(offered.batch, settled)

    def _acknowledged(self, batch: Batch, result: Any) -> None:
        """Note the answer, in a thread of the client's.

        Where it failed, the message comes again, and is a duplicate.
        """
        if result.exception() is not None:
            self.not_acknowledged()
        self.bridge.settled(batch, 1)

    async def _decode(self, delivery: Delivery) -> Sequence[Record]:
        message = Message(delivery.data, dict(delivery.attributes), delivery.publish_time, delivery.message_id)
        if len(message.data) <= AT_ONCE_BYTES:
            return self.format.decode_message(message, self.now())
        return await self.thread.run(partial(self.format.decode_message, message, self.now()))

    def _too_large(self, body: bytes, attributes: dict[str, str] | None) -> Reject:
        return Reject(
            source=self.origin.source,
            mode=self.origin.mode,
            received_at=self.now(),
            reason=Reason.TOO_LARGE,
            body=body,
            attributes=attributes,
        )
