"""Events that come several ways, and a reckoning of which ways brought them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from ingest.event import Event
from storage.books.comparison import Comparison
from storage.books.ways import ComparedSource, Way
from storage.database import Database
from storage.store import SqlStore
from tests.support.records import an_event
from tests.support.stored import rows

START = datetime(2026, 7, 28, 10, tzinfo=UTC)
GRACE = 300
WEBHOOK, SSE, PUBSUB = Way("fleet", "webhook"), Way("fleet", "sse"), Way("fleet", "pubsub")
FLEET = ComparedSource("fleet", GRACE * 1_000_000, (WEBHOOK, SSE))
COMPARED = "SELECT hour, source, modes, events FROM comparisons WHERE events > 0 ORDER BY hour, source, modes"


class Arrived(NamedTuple):
    """An event of a number that came by a way, so many seconds after START."""

    number: int
    way: Way
    seconds: float

    def event(self) -> Event:
        """What a decoder made of it; it was published a tenth of a second before the event of its number could come."""
        return an_event(
            data=b"%d" % self.number,
            published_at=START,
            received_at=START + timedelta(seconds=self.seconds),
            source=self.way.source,
            mode=self.way.mode,
        )


class Scene:
    """A store, who compares, and their time, in seconds after START."""

    def __init__(self, database: Database, *sources: ComparedSource) -> None:
        self.database = database
        self.seconds = 0.0
        self.counted: Counter[tuple[str, str]] = Counter()
        self._store = SqlStore(database, self.now)
        self.comparison = self.another(database, *sources)

    def now(self) -> datetime:
        """The time."""
        return START + timedelta(seconds=self.seconds)

    def another(self, database: Database, *sources: ComparedSource) -> Comparison:
        """Somebody else who compares."""

        def count(source: str, modes: str, events: int) -> None:
            self.counted[source, modes] += events

        return Comparison(database, sources or (FLEET,), self.now, count)

    async def commit(self, *arrived: Arrived) -> None:
        """Commit what arrived, together."""
        await self._store.commit([one.event() for one in arrived])

    async def compare(self, seconds: float) -> None:
        """Compare at a time."""
        self.seconds = seconds
        await self.comparison.post_all()

    async def compared(self) -> dict[str, int]:
        """Events by the ways that brought them, of all sources and hours."""
        found: Counter[str] = Counter()
        for _, _, modes, events in await rows(self.database, COMPARED):
            found[modes] += events
        return dict(found)


def reckoned(arrivals: Sequence[Arrived], grace: float = GRACE) -> dict[tuple[int, str, str], int]:
    """Return the events of each hour and source by the ways that brought them, from arrivals in order of commit."""
    found: Counter[tuple[int, str, str]] = Counter()
    for number in {one.number for one in arrivals}:
        first, *others = (one for one in arrivals if one.number == number)
        ways = {first.way, *(one.way for one in others if one.seconds <= first.seconds + grace)}
        names = [way.mode if way.source == first.way.source else f"{way.source}:{way.mode}" for way in sorted(ways)]
        own_first = sorted(names, key=lambda name: (":" in name, name.replace("webhook", "a").replace("sse", "b")))
        hour = int(START.timestamp() + first.seconds) // 3600
        found[hour, first.way.source, "+".join(own_first)] += 1
    return dict(found)
