"""One streaming pull of a subscription: kept open, watched, opened anew."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

import structlog
from google.auth.exceptions import GoogleAuthError
from google.cloud.pubsub_v1.subscriber.futures import StreamingPullFuture
from grpc import StatusCode

from ingest.event import Cause, Origin
from ingest.ports import Intake, MessageFormat, StreamState
from ingest.pull.bridge import Bridge
from ingest.pull.client import WatchedClient
from ingest.pull.errors import ended, explain
from ingest.pull.feeding import Feeding
from ingest.reconnect import Loss, Patience, ReconnectRules

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PullRules:
    """`max_messages` and `max_bytes` are unacknowledged at most, per stream; the rest is in seconds.

    `lease`: how long a killed process keeps its messages from others; `quiet`: without a message the stream is opened
    anew, for some have fallen silent for ever; `linger`: how long the end of a client waits for outcomes and
    acknowledgements; `proven_life`: a stream that lived so long makes the next loss a new one.
    """

    subscription: str
    max_messages: int = 1000
    max_bytes: int = 64 << 20
    lease: int = 10
    quiet: float = 900.0
    linger: float = 10.0
    proven_life: float = 10.0
    reconnect: ReconnectRules = field(default_factory=ReconnectRules)


@dataclass(frozen=True, slots=True)
class PullParts:
    """What the streams of a source share. `clock` in seconds; `now` is the time of day.

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
        self._connected = False
        self._calling = False
        self._lost: Loss | None = None
        self._state = StreamState(number, "connecting", parts.now())

    @property
    def state(self) -> StreamState:
        """How it does."""
        return self._state

    async def run(self) -> None:
        """Pull until paused."""
        patience = Patience(self._rules.reconnect)
        try:
            while not self._pausing.is_set():
                began = self._parts.clock()
                loss = await self._live()
                if loss is None:
                    continue
                if self._parts.clock() - began > self._rules.proven_life:
                    patience = Patience(self._rules.reconnect)
                wait, patience = patience.after(loss, self._parts.clock(), 0.0, random.uniform)
                self._give_up(loss, wait)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._pausing.wait(), wait)
        finally:
            self._enter("stopped")

    def pause(self) -> None:
        """Take nothing new; what was taken will still be settled and acknowledged."""
        self._pausing.set()
        if self._bridge is not None:
            self._bridge.close()

    def age(self) -> float:
        """How many seconds the oldest message that is not settled has been here; 0.0 where there is none."""
        return 0.0 if self._bridge is None else self._bridge.age()

    async def _live(self) -> Loss | None:
        """One client from its first call to its last: why it gave up; None where it was us who ended it."""
        loop = asyncio.get_running_loop()
        self._connected = self._calling = False
        try:
            client = await asyncio.to_thread(WatchedClient, _InLoop(loop, self))
        except (GoogleAuthError, OSError) as error:
            return explain(error)
        self._bridge = bridge = Bridge(loop, self._rules.linger, self._parts.clock)
        return await self._pull(client, bridge)

    async def _pull(self, client: WatchedClient, bridge: Bridge) -> Loss | None:
        rules, parts = self._rules, self._parts
        feeding = Feeding(
            bridge, parts.origin, parts.format, parts.intake, parts.now, self._heard, parts.not_acknowledged
        )
        self._heard_at = parts.clock()
        async with asyncio.TaskGroup() as tasks:
            fed = tasks.create_task(feeding.run())
            pulling = client.pull_into(
                bridge,
                rules.subscription,
                max_messages=rules.max_messages,
                max_bytes=rules.max_bytes,
                lease=rules.lease,
            )
            try:
                given_up = await self._until_over(pulling)
            finally:
                bridge.close()
                if await self._ended(pulling):
                    await asyncio.to_thread(client.close)
                fed.cancel()
        return explain(pulling.exception()) if given_up and pulling.exception() else None

    async def _until_over(self, pulling: StreamingPullFuture) -> bool:
        """Whether the client gave up: it did not where we are to pause, or nothing was heard for too long.

        What is held while the store is away is no silence: a new client could not keep its leases.
        """
        over = _done(pulling)
        pausing = asyncio.create_task(self._pausing.wait())
        try:
            while (left := self._heard_at + self._rules.quiet - self._parts.clock()) > 0:
                done, _ = await asyncio.wait((over, pausing), timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if done:
                    return over in done and not self._pausing.is_set()
                if self.age():
                    self._heard_at = self._parts.clock()
        finally:
            pausing.cancel()
        return False

    async def _ended(self, pulling: StreamingPullFuture) -> bool:
        """End the client: whether what was taken is settled and its acknowledgements are sent, before it took long.

        Who cancels us waits for it too: the process would end with acknowledgements that were never sent.
        """
        pulling.cancel()
        waiting = asyncio.ensure_future(asyncio.wait((_done(pulling),), timeout=self._rules.linger))
        try:
            done, _ = await asyncio.shield(waiting)
        except asyncio.CancelledError:
            await waiting
            raise
        if not done:
            log.warning("pull_not_ended_in_time", source=self._parts.origin.source, stream=self._state.stream)
        return bool(done)

    def _heard(self) -> None:
        self._heard_at = self._parts.clock()
        now = self._parts.now()
        self._state = replace(self._state, last_byte_at=now)
        self._parts.heard(now)

    def called(self) -> None:
        """See client.Watcher."""
        if self._lost is not None:
            self._parts.reconnecting(self._lost.cause)
        self._calling = True
        self._look()

    def call_ended(self, code: StatusCode | None, details: str | None) -> None:
        """See client.Watcher."""
        self._calling = False
        if not self._pausing.is_set():
            self._lost = ended(code, details, connected=self._connected)
            self._enter("connecting")

    def connected(self, connected: bool) -> None:
        """See client.Watcher."""
        self._connected = connected
        self._look()

    def _look(self) -> None:
        if self._pausing.is_set():
            return
        listening = self._state.state == "listening"
        if self._calling and self._connected and not listening:
            log.info("pull_listening", source=self._parts.origin.source, stream=self._state.stream)
            self._enter("listening")
        elif not self._connected and listening:
            self._enter("connecting")

    def _give_up(self, loss: Loss, wait: float) -> None:
        refused = loss.cause is Cause.UNAUTHORIZED
        tell = log.error if refused else log.warning
        if not refused or self._state.state != "refused":  # once, not at every attempt
            source, stream = self._parts.origin.source, self._state.stream
            event = "pull_refused" if refused else "pull_lost"
            tell(event, source=source, stream=stream, reason=loss.reason, seconds=round(wait))
        self._lost = loss
        self._enter("refused" if refused else "waiting", self._parts.now() + timedelta(seconds=wait))

    def _enter(self, state: str, next_attempt_at: datetime | None = None) -> None:
        lost = self._lost
        self._state = replace(
            self._state,
            state=state,
            since=self._parts.now(),
            lost=None if lost is None else lost.cause,
            reason=None if lost is None else lost.reason,
            next_attempt_at=next_attempt_at,
        )
        self._parts.changed()


class _InLoop:
    """client.Watcher that has a Pull told in its event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pull: Pull) -> None:
        self._loop = loop
        self._pull = pull

    def called(self) -> None:
        self._tell(self._pull.called)

    def call_ended(self, code: StatusCode | None, details: str | None) -> None:
        self._tell(partial(self._pull.call_ended, code, details))

    def connected(self, connected: bool) -> None:
        self._tell(partial(self._pull.connected, connected))

    def _tell(self, what: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(what)


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
