"""A seeded random history of a store, made by the product's own parts: whatever happens, it has to balance."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from random import Random

from sqlalchemy import Connection, select

from ingest.deliveries import Parked
from ingest.event import Cause, Event, Origin, Record
from storage import dead_letters, partitions, pauses, whole_partitions
from storage.books.posting import Posting, post_some
from storage.coverage import SqlCoverage
from storage.cursors import SqlCursor, SqlCursors
from storage.engine import Database
from storage.folding import Folding
from storage.retention import Retention
from storage.rows import to_micros
from storage.store import SqlStore
from storage.tables import events
from tests.support.records import a_reject, an_event, an_ignored

WAYS = (("fleet", "webhook"), ("fleet", "sse"), ("lab", "pubsub"))
_KEEP = timedelta(days=2)
_HANDLER = "alerts"


class History:
    """What a server does to a store, a step at a time and in any order.

    Its clock is ahead of the database's, so that what is paused is paused for long.
    """

    def __init__(self, database: Database, seed: int, most_events: int = 40) -> None:
        self.random = Random(seed)
        self._most_events = most_events
        self._database = database
        self._now = datetime(2040, 1, 1, tzinfo=UTC)
        self._store = SqlStore(database, lambda: self._now)
        self._retention = Retention(database, _KEEP, (_HANDLER,), lambda: self._now)
        self._coverage = SqlCoverage(database, "server")
        self._intervals: dict[tuple[str, str, int], int] = {}
        self._cursor: SqlCursor | None = None
        self._sent: list[Event] = []
        self._steps: list[Callable[[], Awaitable[None]]] = [
            *(self.commit, self.commit, self.deliver, self.deliver, self.post, self.retry, self.listen, self.listen),
            *(self.stop_listening, self.dead, self.pause, self.retire, self.fold, self.restart),
        ]
        if database.dialect == "postgresql":
            self._steps += [self.take_out, self.forget]

    async def go(self, steps: int) -> None:
        """Do so many steps by chance."""
        for _ in range(steps):
            await self.random.choice(self._steps)()

    async def commit(self) -> None:
        """Commit new events and copies of others, what cannot be decoded and what is left out."""
        self._now += timedelta(minutes=self.random.randrange(200))
        count = self.random.randrange(1, self._most_events)
        batch: list[Record] = [self._event() for _ in range(count)]
        batch += self.random.sample(self._sent, min(len(self._sent), self.random.randrange(4)))
        batch += self.random.choice(([], [a_reject()], [an_ignored()]))
        self.random.shuffle(batch)
        await self._store.commit(batch)
        self._sent = [record for record in batch if isinstance(record, Event)]

    async def post(self) -> None:
        """Post some, or all."""
        if self.random.random() < 0.5:
            await self._database.write(post_some)
        else:
            await Posting(self._database).post_all()

    async def deliver(self) -> None:
        """Pass some events: one is delivered, waits, is dead, or is not for this handler."""
        cursor = await self._acquired()
        after = cursor.position
        target = after + self.random.randrange(1, 2 * self._most_events)
        there = await self._database.read(_positions, after, target)
        if not there:
            return
        fates = {position: self.random.choice("ddddddwxu") for position in there}
        left = [self._left(position, dead=fate == "x") for position, fate in fates.items() if fate in "wx"]
        unmatched = sum(fate == "u" for fate in fates.values())
        await cursor.advance(there[-1], left, unmatched=unmatched, skipped=there[-1] - after - len(there))

    async def retry(self) -> None:
        """Try what waits again: it is delivered, or waits on, or is dead."""
        cursor = await self._acquired()
        delivered, left = [], []
        for row, _ in await cursor.due(self._now + timedelta(days=1), 20, by_device=False):
            fate = self.random.choice("ddwx")
            delivered += [row.position] if fate == "d" else []
            left += [] if fate == "d" else [self._left(row.position, dead=fate == "x")]
        await cursor.advance(cursor.position, left, delivered)

    async def dead(self) -> None:
        """Delete some dead letters, or give them back."""
        step = self.random.choice((dead_letters.give_back, dead_letters.remove))
        if self._cursor is not None:
            await self._database.write(step, _HANDLER, dead_letters.ALL, self.random.randrange(1, 5))

    async def pause(self) -> None:
        """Pause the handler, or resume it."""
        if self.random.random() < 0.5:
            await self._database.write(pauses.pause, _HANDLER, "by chance")
        else:
            await self._database.write(pauses.resume, _HANDLER)

    async def restart(self) -> None:
        """Go on as another process."""
        if self._cursor is not None:
            await self._cursor.release()
            self._cursor = None

    async def retire(self) -> None:
        """Let what is old enough expire."""
        self._now += timedelta(hours=self.random.randrange(48))
        await self._retention.purge()

    async def fold(self) -> None:
        """Fold tallies."""
        await Folding(self._database, lambda: self._now).fold()

    async def listen(self) -> None:
        """Begin an interval of a stream, or make it longer."""
        source, mode = self.random.choice(WAYS)
        stream, ago = self.random.randrange(2), self.random.uniform(0, 5)
        interval = self._intervals.get((source, mode, stream))
        if interval is None:
            opened = await self._coverage.open(Origin("tracker", source, mode), stream, ago)
            self._intervals[source, mode, stream] = opened.interval
        else:
            await self._coverage.extend(interval, ago)

    async def stop_listening(self) -> None:
        """End an interval."""
        if self._intervals:
            stream = self.random.choice(sorted(self._intervals))
            ago = self.random.uniform(0, 5)
            await self._coverage.end(self._intervals.pop(stream), self.random.choice(list(Cause)), ago)

    async def take_out(self) -> None:
        """Take the oldest partition out, as if its handler were gone, without forgetting its ids yet."""
        self._now += _KEEP
        await self._database.write(partitions.make_ahead, to_micros(self._now))
        _, filled = await self._database.read(partitions.filled)
        before = to_micros(self._now - _KEEP)
        if filled and (filled[0].last_at is None or filled[0].last_at < before):
            oldest, now = filled[0].partition, to_micros(self._now)
            await self._database.alter(whole_partitions.take_out, oldest, before, now, ())

    async def forget(self) -> None:
        """Forget some ids of a partition that was taken out."""
        for name in await self._database.read(partitions.taken_out):
            await self._database.write(whole_partitions.forget_some, name, 0)

    def _event(self) -> Event:
        source, mode = self.random.choice(WAYS)
        at = self._now - timedelta(seconds=self.random.randrange(10**7))
        return an_event(
            device=f"dev{self.random.randrange(9)}", published_at=at, received_at=self._now, source=source, mode=mode
        )

    def _left(self, position: int, *, dead: bool) -> Parked:
        return Parked(position, "dev1", 1, self._now, None if dead else self._now, "boom")

    async def _acquired(self) -> SqlCursor:
        if self._cursor is None:
            cursors = SqlCursors(self._database)
            self._cursor = await cursors.acquire(_HANDLER, holder="server", begin="beginning")
        assert self._cursor is not None
        return self._cursor


def _positions(connection: Connection, after: int, last: int) -> list[int]:
    some = select(events.c.position).where(events.c.position > after, events.c.position <= last)
    return list(connection.execute(some.order_by(events.c.position)).scalars())
