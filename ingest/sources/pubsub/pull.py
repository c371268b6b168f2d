"""One streaming pull of a subscription: kept open, watched, opened anew."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from google.cloud.pubsub_v1.subscriber.futures import StreamingPullFuture

from ingest.event import Cause, Origin
from ingest.protocols import Intake, MessageFormat
from ingest.reconnect import Loss, Patience, ReconnectRules
from ingest.retrying import wait_at_most
from ingest.source_health import StreamState
from ingest.sources.pubsub.bridge import Bridge
from ingest.sources.pubsub.client import WatchedClient
from ingest.sources.pubsub.errors import explain
from ingest.sources.pubsub.feeding import Feeding
from ingest.sources.pubsub.probe import look
from ingest.sources.pubsub.stream_health import StreamHealth

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PullRules:
    """`max_messages` and `max_bytes` are unacknowledged at most, per stream; the rest is in seconds.

    `lease`: how long a killed process keeps its messages from others; `accepted`: a call that lasted so long was not
    refused; `quiet`: without a message the stream is opened anew, for some have fallen silent for ever; `look`: between
    two looks whether the client's threads live; `drain_timeout`: how long the end of a client waits for outcomes and
    acknowledgements, and `threads`, after that, for its threads; `proven_life`: a stream that lived so long makes the
    next loss a new one.
    """

    subscription: str
    max_messages: int = 1000
    max_bytes: int = 64 << 20
    lease: int = 10
    accepted: float = 1.0
    quiet: float = 900.0
    look: float = 1.0
    drain_timeout: float = 10.0
    threads: float = 3.0
    # The client makes five calls in ten seconds. As long is the usual lease, and nothing can extend it meanwhile.
    vain_calls: int = 10
    # Threads that still use a channel complain where it is closed: one of grpc's looks every 0.2 s whether there is a
    # connection, one of the client's may have been waiting ten seconds to open the stream again.
    close: float = 15.0
    proven_life: float = 10.0
    # A missing subscription or permission only somebody else can mend, and an attempt costs nothing.
    reconnect: ReconnectRules = field(default_factory=lambda: ReconnectRules(refused=60.0))


@dataclass(frozen=True, slots=True)
class PullParts:
    """The parts that the streams of a source share. `clock` in seconds; `now` is the time of day.

    `heard` is told when messages came, `changed` of every change of state, `reconnecting` of the cause before each
    further attempt, `not_acknowledged` of each acknowledgement that failed (in any thread).
    """

    origin: Origin
    format: MessageFormat
    intake: Intake
    clock: Callable[[], float]
    now: Callable[[], datetime]
    heard: Callable[[datetime], None]
    changed: Callable[[], None]
    reconnecting: Callable[[Cause], None]
    not_acknowledged: Callable[[], None]


class Pull:
    """Runs until it is paused. A loss is waited out; where a subscription or a permission is missing, too."""

    def __init__(self, number: int, rules: PullRules, parts: PullParts) -> None:
        self._rules = rules
        self._parts = parts
        self._pausing = asyncio.Event()
        self._bridge: Bridge | None = None
        self._heard_at = 0.0  # by the clock
        self._health = StreamHealth(
            parts.origin.source, number, rules.accepted, parts.now, parts.changed, parts.reconnecting
        )

    @property
    def state(self) -> StreamState:
        """Return how it does."""
        return self._health.state

    async def run(self) -> None:
        """Pull until paused. Cancelled, it still ends its client in good order, in bounded time."""
        patience = Patience(self._rules.reconnect)
        try:
            while not self._pausing.is_set():
                began = self._parts.clock()
                loss = await self._attempt()
                if loss is None:
                    continue
                if self._parts.clock() - began > self._rules.proven_life:
                    patience = Patience(self._rules.reconnect)
                wait, patience = patience.after(loss, self._parts.clock(), 0.0, random.uniform)
                self._health.give_up(loss, wait)
                await wait_at_most(self._pausing, wait)
        finally:
            self._health.stop()

    def pause(self) -> None:
        """Take nothing new; what was taken will still be settled and acknowledged."""
        self._pausing.set()
        self._health.stop()
        if self._bridge is not None:
            self._bridge.close()

    def age(self) -> float:
        """Return how many seconds the oldest message that is not settled has been here; 0.0 where there is none."""
        return 0.0 if self._bridge is None else self._bridge.age()

    async def _attempt(self) -> Loss | None:
        """Do as `_live`; whatever is raised ends this client, and neither the source nor its other streams."""
        try:
            return await self._live()
        except Exception as error:  # nobody can list what a library, or our reading of a message, raises
            log.exception("pull_attempt_failed", source=self._parts.origin.source, stream=self.state.stream)
            return Loss(Cause.ERROR, f"the attempt failed ({type(_innermost(error)).__name__})")

    async def _live(self) -> Loss | None:
        """Run one client from its first call to its last; return why it gave up; None where it was us who ended it."""
        rules = self._rules
        try:
            client = await asyncio.to_thread(WatchedClient, self._health.begin(), rules.vain_calls, rules.close)
        except Exception as error:  # over a malformed key file google-auth stumbles in many ways
            return explain(error)
        if self._pausing.is_set():
            client.close()
            return None
        self._bridge = bridge = Bridge(asyncio.get_running_loop(), rules.drain_timeout, self._parts.clock)
        return await self._pull(client, bridge)

    async def _pull(self, client: WatchedClient, bridge: Bridge) -> Loss | None:
        rules, parts = self._rules, self._parts
        feeding = Feeding(
            bridge, parts.origin, parts.format, parts.intake, parts.now, self._heard, parts.not_acknowledged
        )
        self._heard_at = parts.clock()
        try:
            pulling = client.pull_into(
                bridge,
                rules.subscription,
                max_messages=rules.max_messages,
                max_bytes=rules.max_bytes,
                lease=rules.lease,
            )
        except BaseException:
            client.close()
            raise
        async with asyncio.TaskGroup() as tasks:
            fed, looking = tasks.create_task(feeding.run()), tasks.create_task(self._look(client))
            try:
                why = await self._until_over(client, pulling, bridge)
            finally:
                await _surely(self._end(client, bridge, pulling))
                looking.cancel()
                async with feeding.offering:  # with the store away no client after this one may fill the line
                    fed.cancel()
        return None if why is None else why()

    async def _until_over(
        self, client: WatchedClient, pulling: StreamingPullFuture, bridge: Bridge
    ) -> Callable[[], Loss] | None:
        """Return what tells, when the client has ended, why it gave up; None where we pause, or heard nothing for
        too long.

        A thread of the client's counts as dead when it was so at two looks, and the client does nothing about it.

        What is held while the store is away is no silence: the pull stops by itself, and a new client could not keep
        its leases. Silence begins anew when it is settled.
        """
        over, dead = _done(pulling), None
        pausing = asyncio.create_task(self._pausing.wait())
        quiet = self._rules.quiet
        try:
            while (left := self._silent_since(bridge) + quiet - self._parts.clock()) > 0 or bridge.age() > 0:
                waited = min(left if left > 0 else quiet, self._rules.look)
                done, _ = await asyncio.wait((over, pausing), timeout=waited, return_when=asyncio.FIRST_COMPLETED)
                if done:
                    given_up = over in done and not self._pausing.is_set()
                    return partial(self._why, pulling) if given_up else None
                known, dead = dead, None if bridge.shutting_down else client.dead_thread()
                if dead is not None and dead == known:
                    client.end_call()
                    return partial(Loss, Cause.ERROR, f"a thread of Google's client died: {dead}")
        finally:
            pausing.cancel()
        self._health.leave(Loss(Cause.IDLE, f"no message for {quiet:g} s"))
        return None

    async def _look(self, client: WatchedClient) -> None:
        """Find out beside the pulling whether anything new can come; what is there already does in any case."""
        with suppress(Exception):  # whatever Google's client raises, nothing is known then
            self._health.nothing_new(await asyncio.to_thread(look, client, self._rules.subscription))

    def _why(self, pulling: StreamingPullFuture) -> Loss:
        return self._health.why(pulling.exception())

    def _silent_since(self, bridge: Bridge) -> float:
        return max(self._heard_at, bridge.settled_at)

    async def _end(self, client: WatchedClient, bridge: Bridge, pulling: StreamingPullFuture) -> None:
        """End the client when what was taken is settled and its acknowledgements are sent, or that takes too long."""
        bridge.close()
        client.open_no_more()
        pulling.cancel()
        done, _ = await asyncio.wait((_done(pulling),), timeout=self._rules.drain_timeout + self._rules.threads)
        if done:
            client.close()
        else:
            log.warning("pull_not_ended_in_time", source=self._parts.origin.source, stream=self.state.stream)
            pulling.add_done_callback(lambda _: client.close())

    def _heard(self) -> None:
        self._heard_at = self._parts.clock()
        now = self._parts.now()
        self._health.heard(now)
        self._parts.heard(now)


def _innermost(error: BaseException) -> BaseException:
    """Return the first error in groups of errors."""
    return _innermost(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


async def _surely(work: Coroutine[Any, Any, None]) -> None:
    """Do the work to its end, also where whoever waits for it is cancelled meanwhile."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def _done(pulling: StreamingPullFuture) -> asyncio.Future[None]:
    """Done when `pulling` is, however it ends."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not done.done():
            done.set_result(None)

    def over(_: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(tell)

    pulling.add_done_callback(over)
    return done
