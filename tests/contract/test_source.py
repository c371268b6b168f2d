"""What ingest.protocols.Source promises, for every delivery mode; real differences between the modes are declared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from ingest.event import Commit, Mode, Outcome, Record
from ingest.metrics import Metrics
from ingest.protocols import Source, Store
from storage.engine import Database
from tests.support.gated_database import GatedDatabase
from tests.support.pubsub_rig import PubsubRig, a_message, pubsub_rig
from tests.support.sse_on_store import SseOnStore, sse_on_store
from tests.support.sse_upstream import Channel
from tests.support.stored import rows
from tests.support.tcp_on_store import TcpOnStore, tcp_on_store
from tests.support.webhook_rig import WebhookRig, webhook_rig

EVENTS = "SELECT name, device, source, mode, product FROM events ORDER BY position"
INTERVALS = "SELECT source, mode, since, until FROM coverage ORDER BY id"
GAPS = "SELECT source, mode, since, until, cause FROM gaps ORDER BY id"
PUBLISHED = "2026-07-28T16:53:05.616Z"


class Upstream(Protocol):
    """The sender's side of a source, and what the test needs of the inside."""

    source: Source
    metrics: Metrics
    database: GatedDatabase
    running: asyncio.Task[None]  # of the source

    async def deliver(self, *names: str) -> bool:
        """Deliver events of these names at once, published at PUBLISHED; whether they were acknowledged.

        An empty name makes an element that cannot be decoded. Where there are no acknowledgements: whether the source
        has read on.
        """
        ...


Spoil = Callable[[Store], Store]


@dataclass(frozen=True)
class Kind:
    """A delivery mode, and how it really differs from others.

    `deferred`: upstream is told to send again what cannot be committed now. Otherwise it is held, and upstream told
    nothing: nobody will send it again (SSE), or giving it back would only bring it back at once (Pub/Sub).
    `covered`: what comes while nothing listens is lost, so there are intervals and gaps. Google keeps what is not
    acknowledged, and Pub/Sub has none.
    `prompt`: within how many seconds an acknowledgement reaches upstream.
    """

    mode: Mode
    deferred: bool
    covered: bool
    make: Callable[[Path, Spoil], AbstractAsyncContextManager[Upstream]]
    prompt: float = 0.1


class WebhookUpstream:
    """Posts, all events of a delivery in one body."""

    def __init__(self, rig: WebhookRig) -> None:
        self._rig = rig
        self.source: Source = rig.source
        self.metrics = rig.metrics
        self.database = rig.database
        self.running = asyncio.create_task(rig.source.run())

    async def deliver(self, *names: str) -> bool:
        """See Upstream."""
        lines = (
            b'{"event":"%b","coreid":"dev1","published_at":"%b"}' % (n.encode(), PUBLISHED.encode()) for n in names
        )
        reply = await self._rig.send(b"\n".join(lines))
        assert reply is not None
        assert reply.code in {204, 503}
        return reply.code == 204


@asynccontextmanager
async def webhooks(folder: Path, spoil: Spoil) -> AsyncIterator[Upstream]:
    """The webhook mode."""
    async with webhook_rig(folder, spoil=spoil) as rig:
        upstream = WebhookUpstream(rig)
        try:
            yield upstream
        finally:
            upstream.running.cancel()
            await asyncio.gather(upstream.running, return_exceptions=True)


class StreamUpstream:
    """Says all events of a delivery at once, to the connection that it was opened with."""

    def __init__(self, rig: SseOnStore, channel: Channel) -> None:
        self._rig = rig
        self._channel = channel
        self.source: Source = rig.source
        self.metrics = rig.metrics
        self.database = rig.database
        self.running = rig.running

    async def deliver(self, *names: str) -> bool:
        """See Upstream."""
        before = self._settled()
        data = b'{"coreid":"dev1","published_at":"%b"}' % PUBLISHED.encode()
        try:
            await self._channel.say(b"".join(b"event: %b\ndata: %b\n\n" % (name.encode(), data) for name in names))
        except OSError:
            return False
        while self._settled() < before + len(names):
            if self._channel.left.is_set():
                return False
            await asyncio.sleep(0.005)
        return True

    def _settled(self) -> int:
        counted = self.metrics.counts("fleet", "sse")
        return counted["received"] - counted["in_flight"]


@asynccontextmanager
async def streams(folder: Path, spoil: Spoil) -> AsyncIterator[Upstream]:
    """The SSE mode."""
    async with sse_on_store(folder, spoil=spoil) as rig:
        channel = await rig.upstream.channel()
        while not rig.source.condition().up:  # noqa: ASYNC110 - a state
            await asyncio.sleep(0.005)
        yield StreamUpstream(rig, channel)


class QueueUpstream:
    """Publishes all messages of a delivery at once, into a subscription of the emulator."""

    def __init__(self, rig: PubsubRig) -> None:
        self._rig = rig
        self.source: Source = rig.source
        self.metrics = rig.metrics
        self.database = rig.database
        self.running = rig.running

    async def deliver(self, *names: str) -> bool:
        """See Upstream."""
        messages = await self._rig.publish(*(a_message(name, b"") for name in names))
        while not self.running.done():
            if self._rig.proxy.acknowledged.keys() >= set(messages):
                return True
            await asyncio.sleep(0.005)
        return False


@asynccontextmanager
async def queues(folder: Path, spoil: Spoil) -> AsyncIterator[Upstream]:
    """The Pub/Sub mode."""
    async with pubsub_rig(folder, spoil=spoil) as rig:
        await rig.until_up()
        yield QueueUpstream(rig)


class LinesUpstream:
    """Sends all events of a delivery at once, a line for each, by the connection that it opened at the beginning."""

    def __init__(self, rig: TcpOnStore) -> None:
        self._rig = rig
        self.source: Source = rig.source
        self.metrics = rig.metrics
        self.database = rig.database
        self.running = rig.running

    async def deliver(self, *names: str) -> bool:
        """See Upstream."""
        answers = await self._rig.send(
            *(b'{"event":"%b","coreid":"dev1","published_at":"%b"}' % (n.encode(), PUBLISHED.encode()) for n in names)
        )
        return len(answers) == len(names) and all(answer.startswith(b"ok ") for answer in answers)


@asynccontextmanager
async def lines(folder: Path, spoil: Spoil) -> AsyncIterator[Upstream]:
    """The TCP mode of an installed package."""
    async with tcp_on_store(folder, spoil=spoil) as rig:
        yield LinesUpstream(rig)


KINDS = [
    Kind("webhook", deferred=True, covered=True, make=webhooks),
    Kind("sse", deferred=False, covered=True, make=streams),
    Kind("pubsub", deferred=False, covered=False, make=queues, prompt=1.0),
    Kind("tcp", deferred=True, covered=True, make=lines),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.mode)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Every delivery mode."""
    assert isinstance(request.param, Kind)
    return request.param


@pytest.fixture
def covered(kind: Kind) -> None:
    """For what is about intervals and gaps."""
    if not kind.covered:
        pytest.skip("upstream keeps what comes while nothing listens: no intervals, no gaps")


@pytest.fixture
async def upstream(kind: Kind, tmp_path: Path) -> AsyncIterator[Upstream]:
    """A source of that mode on a real store, and its sender."""
    async with kind.make(tmp_path, lambda store: store) as upstream:
        yield upstream


def counts(upstream: Upstream, kind: Kind) -> dict[str, int]:
    """What was counted, without zeros."""
    return {name: count for name, count in upstream.metrics.counts("fleet", kind.mode).items() if count}


async def rule_acknowledged_means_committed(upstream: Upstream, kind: Kind) -> None:
    """While the commit has not taken place nothing is acknowledged; once it is acknowledged it is there."""
    upstream.database.close_gate()
    delivering = asyncio.create_task(upstream.deliver("temp", "alarm"))
    async with asyncio.timeout(10):
        while counts(upstream, kind).get("received") != 2:  # noqa: ASYNC110 - a counter
            await asyncio.sleep(0.005)
    done, _ = await asyncio.wait([delivering], timeout=kind.prompt)
    upstream.database.open_gate()

    assert not done
    assert await delivering
    expected = [(name, "dev1", "fleet", kind.mode, "tracker") for name in ("temp", "alarm")]
    assert await rows(upstream.database, EVENTS) == expected


async def test_acknowledged_means_committed(upstream: Upstream, kind: Kind) -> None:
    """The promise of every mode."""
    await rule_acknowledged_means_committed(upstream, kind)


class Hopeful:
    """A store that answers before it commits."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._late: list[asyncio.Task[Commit]] = []

    async def commit(self, records: Sequence[Record]) -> Commit:
        """Not what protocols.Store says."""
        self._late.append(asyncio.create_task(self._store.commit(records)))
        return Commit([Outcome.STORED] * len(records))


async def test_the_rule_notices_hope(kind: Kind, tmp_path: Path) -> None:
    """The rule is worth something: acknowledging before the commit fails it."""
    async with kind.make(tmp_path, Hopeful) as upstream:
        with pytest.raises(AssertionError):
            await rule_acknowledged_means_committed(upstream, kind)


async def test_a_second_delivery_is_acknowledged_and_stored_once(upstream: Upstream, kind: Kind) -> None:
    """Upstream may repeat itself as often as it likes."""
    for _ in range(3):
        assert await upstream.deliver("temp")

    assert len(await rows(upstream.database, EVENTS)) == 1
    assert counts(upstream, kind) == {"received": 3, "stored": 1, "duplicate": 2}


async def test_what_cannot_be_decoded_is_kept_and_acknowledged(upstream: Upstream, kind: Kind) -> None:
    """One bad element neither stops the source nor costs its neighbours anything."""
    assert await upstream.deliver("temp", "", "alarm")

    assert [row[0] for row in await rows(upstream.database, EVENTS)] == ["temp", "alarm"]
    assert await rows(upstream.database, "SELECT source, mode, reason FROM rejects") == [
        ("fleet", kind.mode, "missing_name")
    ]
    assert counts(upstream, kind) == {"received": 3, "stored": 2, "rejected": 1}


async def test_what_is_ignored_is_counted_and_acknowledged(upstream: Upstream, kind: Kind) -> None:
    """Names the configuration leaves out are not stored, and not sent again."""
    assert await upstream.deliver("hook-sent/temp")

    assert await rows(upstream.database, EVENTS) == []
    assert counts(upstream, kind) == {"received": 1, "ignored": 1}


async def test_a_store_that_is_away_loses_nothing(upstream: Upstream, kind: Kind) -> None:
    """What cannot be committed is sent again, where upstream is told to, or held until the store is back."""
    upstream.database.away = True
    if kind.deferred:
        assert not await upstream.deliver("temp")
        assert counts(upstream, kind) == {"received": 1, "deferred": 1}
        upstream.database.away = False
        assert await upstream.deliver("temp")
    else:
        delivering = asyncio.create_task(upstream.deliver("temp"))
        await asyncio.wait([delivering], timeout=0.1)
        assert not counts(upstream, kind).get("deferred")
        upstream.database.away = False
        assert await delivering
        assert counts(upstream, kind) == {"received": 1, "stored": 1}
    assert len(await rows(upstream.database, EVENTS)) == 1


async def test_a_paused_source_takes_nothing_new(upstream: Upstream, kind: Kind) -> None:
    """After `pause` nothing more is received; nothing received before is lost by it."""
    assert await upstream.deliver("temp")
    assert upstream.source.condition().up
    await upstream.source.pause()

    assert not upstream.source.condition().up
    assert not await upstream.deliver("late")
    assert len(await rows(upstream.database, EVENTS)) == 1
    assert counts(upstream, kind) == {"received": 1, "stored": 1}


async def test_last_seen_is_nothing_until_something_came(upstream: Upstream) -> None:
    """A source says when it last heard an event and a byte; never before it did."""
    before = upstream.source.last_seen()
    await upstream.deliver("temp")
    after = upstream.source.last_seen()

    assert (before.event_at, before.byte_at) == (None, None)
    assert after.event_at is not None
    assert after.byte_at is not None
    assert abs((after.event_at - after.byte_at).total_seconds()) < 5


@pytest.mark.usefixtures("covered")
async def test_running_records_that_it_listens(upstream: Upstream, kind: Kind) -> None:
    """While it runs, a source has an interval of coverage whose end moves; a store away for a while ends neither."""
    await until_covered(upstream.database, 1)
    upstream.database.away = True
    await asyncio.sleep(0.05)
    assert not upstream.running.done()
    assert upstream.source.condition().up
    upstream.database.away = False
    before = (await rows(upstream.database, INTERVALS))[0]
    await asyncio.sleep(0.3)  # what may be on its way never counts as heard
    await upstream.deliver("temp")
    await until_covered(upstream.database, before[3] + 1)

    upstream.running.cancel()
    await asyncio.gather(upstream.running, return_exceptions=True)
    assert upstream.running.cancelled()
    ((source, mode, since, until),) = await rows(upstream.database, INTERVALS)
    assert (source, mode) == ("fleet", kind.mode)
    assert since < until


@pytest.mark.usefixtures("covered")
async def test_a_clean_stop_leaves_a_gap_that_says_so(upstream: Upstream, kind: Kind) -> None:
    """From `pause` on nobody listens, and that was meant: the record says since when, although `run` goes on."""
    await until_covered(upstream.database, 1)

    await upstream.source.pause()

    ((source, mode, since, until, cause),) = await rows(upstream.database, GAPS)
    assert (source, mode, until, cause) == ("fleet", kind.mode, None, "stopped")
    assert [row[3] for row in await rows(upstream.database, INTERVALS)] == [since]


@pytest.mark.usefixtures("covered")
async def test_a_stop_that_cannot_be_recorded_holds_nothing_up(upstream: Upstream) -> None:
    """With the store away `pause` returns all the same; the next process finds the gap."""
    await until_covered(upstream.database, 1)
    upstream.database.away = True

    await upstream.source.pause()

    upstream.database.away = False
    assert await rows(upstream.database, GAPS) == []


async def until_covered(database: Database, instant: int) -> None:
    """Return when an interval reaches `instant`."""
    async with asyncio.timeout(5):
        while not [row for row in await rows(database, INTERVALS) if row[3] >= instant]:  # noqa: ASYNC110 - a table
            await asyncio.sleep(0.005)
