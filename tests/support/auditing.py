"""A store with numbered events of devices, and Auditors that a test drives step by step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from sqlalchemy import select, update

from app.auditor.auditor_metrics import AuditorMetrics
from app.auditor.followed_sources import FollowedSource, FollowedSources
from app.auditor.session import AuditLimits, AuditSession
from ingest.event import Event
from ingest.metrics import Metrics
from ingest.sequences import NumberReader, SequenceRules
from storage.cursors import SqlCursors
from storage.database import Database
from storage.feed import SqlFeed
from storage.sequences import AUDITOR
from storage.store import SqlStore
from storage.tables import cursors, losses, sequences
from tests.support.dispatching import NOON, Clock

GRACE = 300
ALL_AT_ONCE = AuditLimits(save_seconds=1e9, margin_seconds=0, again_seconds=0)
Loss = tuple[str, int, str]  # device, number, state


def a_number(position: int, device: str | None, number: int | None, **fields: Any) -> Event:
    """An event that carries a number, received `at` seconds after NOON, with an id of its own."""
    at = NOON + timedelta(seconds=fields.pop("at", 0))
    epoch, data = fields.pop("epoch", None), fields.pop("data", "")
    text = (
        b"{}"
        if number is None
        else b'{"seq":%d,"boot":"%b","data":"%b"}' % (number, str(epoch).encode(), data.encode())
    )
    event: dict[str, Any] = {
        "id": UUID(int=(1 << 80) + position),
        "product": "tracker",
        "device": device,
        "name": "loc",
        "data": text,
        "content_type": "application/json",
        "published_at": at,
        "received_at": at,
        "source": "fleet",
        "mode": "webhook",
        "attributes": {},
    }
    return Event(**(event | fields))


def following(*labels: str, **rules: Any) -> FollowedSources:
    """Sources of the product `tracker`, whose counter is in /seq, and in /boot the epoch."""
    by_epoch = rules.get("by_epoch", False)
    reader = NumberReader(("seq",), epoch=("boot",) if by_epoch else None)
    found = SequenceRules(GRACE * 1_000_000, **rules)
    return FollowedSources({label: FollowedSource(label, {"tracker"}, reader, found) for label in labels or ("fleet",)})


class Audited:
    """A store, and what Auditors made of it. `metrics` are of all of them."""

    def __init__(self, database: Database, sources: FollowedSources | None = None) -> None:
        self.database = database
        self.sources = sources or following()
        self.clock = Clock()
        self.metrics = Metrics(CollectorRegistry())
        self._events = 0

    async def commit(self, *numbers: int | None, device: str | None = "dev1", **fields: Any) -> None:
        """Store events that carry these numbers."""
        await self.store(a_number(0, device, number, **dict(fields)) for number in numbers)

    async def store(self, events: Iterable[Event]) -> None:
        """Store events, each with an id of its own."""
        found = []
        for event in events:
            self._events += 1
            found.append(replace(event, id=UUID(int=(1 << 80) + self._events)))
        await SqlStore(self.database, self.clock).commit(found)

    async def auditor(
        self, holder: str = "one", *, limits: AuditLimits = ALL_AT_ONCE, database: Database | None = None
    ) -> AuditSession:
        """An Auditor that has just taken the cursor, from whoever had it."""
        database = database or self.database
        free = update(cursors).where(cursors.c.handler == AUDITOR).values(expires_at=1)
        await self.database.write(lambda connection: connection.execute(free) and None)
        cursor = await SqlCursors(database).acquire(AUDITOR, holder=holder, begin="beginning")
        assert cursor is not None
        session = AuditSession(
            cursor, SqlFeed(database), database, self.sources, AuditorMetrics(self.metrics), self.clock, limits
        )
        await session.begin()
        return session

    async def audit(self, seconds: float = 0) -> None:
        """Let an Auditor follow everything, `seconds` later."""
        self.clock.forward(seconds)
        session = await self.auditor()
        while not await session.step():
            pass

    async def losses(self) -> list[Loss]:
        """Every number that did not come in its turn, and what became of it."""
        rows = await self.database.read(lambda connection: connection.execute(select(losses)).all())
        return sorted((row.device, row.first + at, row.state) for row in rows for at in range(row.last - row.first + 1))

    async def states(self) -> list[tuple[Any, ...]]:
        """The states of all devices, but for ids."""
        query = select(sequences).order_by(sequences.c.product, sequences.c.device)
        rows = await self.database.read(lambda connection: connection.execute(query).all())
        return [(row.device, row.number, row.at, len(row.state)) for row in rows]

    def counted(self) -> Counter[str]:
        """What the metrics show of the source `fleet`, without what is 0."""
        metrics, found = self.metrics, Counter[str]()
        for name in ("missing", "lost", "ambiguous", "recovered"):
            for family in getattr(metrics, name).collect():
                for sample in family.samples:
                    key = " ".join([name, *filter(None, [sample.labels.get("from")])])
                    found[key] += int(sample.value)
        return +found
