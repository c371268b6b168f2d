"""One of a source's streams: keeps a connection open, and replaces it before it must go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

import structlog

from ingest.event import Cause
from ingest.protocols import Opens
from ingest.reconnect import Loss, Patience
from ingest.retrying import Draw, wait_at_most
from ingest.source_health import StreamState
from ingest.sources.sse.connection import Connection, Wire
from ingest.sources.sse.rules import StreamRules

_SILENCES = 2  # so often in a row a connection ended idle on which nothing was heard
_REFUSALS_OF_ID = 4  # 401, 403 or 404 so often in a row may be meant for the id

log = structlog.get_logger(__name__)


class _Attempt(NamedTuple):
    """A connection and the task that is its life."""

    connection: Connection
    task: asyncio.Task[Loss]

    async def decided(self) -> None:
        """Return when it is opened, or over."""
        either: list[asyncio.Future[Any]] = [self.task, self.connection.opened]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)


class Stream:
    """Runs until it is paused. `token` gives the present one; `host` is what the budget counts by.

    `changed` is called at every change of state, `reconnecting` with the cause before each further attempt.
    """

    def __init__(
        self,
        number: int,
        wire: Wire,
        rules: StreamRules,
        token: Callable[[], str] | None,
        opens: Opens,
        host: str,
        draw: Draw,
        changed: Callable[[], None],
        reconnecting: Callable[[Cause], None],
    ) -> None:
        self._number = number
        self._wire = wire
        self._rules = rules
        self._token = token
        self._opens = opens
        self._host = host
        self._draw = draw
        self._changed = changed
        self._reconnecting = reconnecting
        self._patience = Patience(rules.reconnect)
        self._patience_with_successor = Patience(rules.reconnect)
        self._pausing = asyncio.Event()
        self._ended = asyncio.Event()
        self._live: set[Connection] = set()
        self._last: Connection | None = None
        self._replace_at = float("inf")  # by age
        self._refused_token: str | None = None
        self._refused_id: str | None = None
        self._retry: float | None = None  # the last one that upstream said
        self._silences = 0  # connections in a row of which nothing was heard but the answer
        self._state = StreamState(number, "connecting", wire.now())

    @property
    def state(self) -> StreamState:
        """Return how it does."""
        heard = None if self._last is None else self._last.last_byte_at
        return replace(self._state, last_byte_at=heard or self._state.last_byte_at)

    def connections(self) -> Iterator[Connection]:
        """Return what is open or being opened: two while one is replaced."""
        yield from tuple(self._live)

    async def run(self) -> None:
        """Keep a connection open until paused."""
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._run(tasks)
        finally:
            self._enter("stopped")
            self._ended.set()

    def pause(self) -> None:
        """Read nothing new; what was read is offered."""
        self._pausing.set()
        for connection in self._live:
            connection.leave()

    def abandon(self) -> None:
        """After `pause`: wait for nothing any more."""
        for connection in self._live:
            connection.abandon()

    async def ended(self) -> None:
        """Return when `run` has."""
        await self._ended.wait()

    async def _run(self, tasks: asyncio.TaskGroup) -> None:
        while not self._pausing.is_set():
            if not await self._admitted():
                return
            self._enter_unless_refused("connecting")
            loss = await self._attend(self._start(tasks), tasks)
            if not self._pausing.is_set():
                await self._recover(loss)

    async def _admitted(self) -> bool:
        """Return when the budget has an open for us: True; or when paused."""
        while not self._pausing.is_set():
            delay = await self._opens.claim(self._host)
            if delay <= 0:
                if not self._pausing.is_set():
                    return True
                self._opens.closed(self._host)
                return False
            held_back = "held back: more opens would close upstream's door"
            self._enter_unless_refused("waiting", reason=held_back, wait=delay)
            log.warning("stream_held_back", source=self._wire.origin.source, stream=self._number, seconds=round(delay))
            await self._nap(delay)
        return False

    def _start(self, tasks: asyncio.TaskGroup) -> _Attempt:
        last_event_id = None if self._last is None else self._last.last_event_id
        if last_event_id == self._refused_id:
            last_event_id = None
        token = None if self._token is None else self._token()
        self._state = self.state  # with the last byte of the connection that now was
        connection = self._last = Connection(self._number, self._patient_wire(), token, last_event_id)
        self._live.add(connection)
        task = tasks.create_task(connection.run())
        task.add_done_callback(lambda _: self._over(connection))
        return _Attempt(connection, task)

    def _patient_wire(self) -> Wire:
        """Return the wire, patient where upstream says nothing for longer than we wait: once a minute, perhaps.

        Older pages of Particle's name that for its keep-alives.
        """
        patient = self._rules.patient
        if self._silences >= _SILENCES and self._wire.idle_seconds < patient:
            log.warning("stream_idle_longer", source=self._wire.origin.source, stream=self._number, seconds=patient)
            self._wire = replace(self._wire, idle_seconds=patient)
        return self._wire

    def _over(self, connection: Connection) -> None:
        """Take note of what a connection that is over has said of the next one."""
        self._live.discard(connection)
        self._opens.closed(self._host)
        if connection.decoder.retry_seconds is not None:
            self._retry = connection.decoder.retry_seconds
        if connection.fell_silent is not None:
            self._silences = self._silences + 1 if connection.fell_silent else 0

    async def _attend(self, attempt: _Attempt, tasks: asyncio.TaskGroup) -> Loss:
        """Stay with a connection, and with those that replace it, until there is none left."""
        await attempt.decided()
        if not attempt.task.done():
            self._listens()
        while not attempt.task.done():
            await asyncio.wait([attempt.task], timeout=self._rules.token)
            if not attempt.task.done() and not self._pausing.is_set() and self._is_due(attempt.connection):
                attempt = await self._replaced(attempt, tasks)
        if self._wire.clock() - attempt.connection.opened_at >= self._rules.proven_life:
            self._patience = Patience(self._rules.reconnect)
        return attempt.task.result()

    def _listens(self) -> None:
        max_age = self._rules.max_age
        self._replace_at = self._wire.clock() + self._draw(0.9 * max_age, max_age)  # never all streams at once
        self._refused_token = None
        self._patience_with_successor = Patience(self._rules.reconnect)
        self._enter("listening")
        log.info("stream_listening", source=self._wire.origin.source, stream=self._number)

    def _is_due(self, connection: Connection) -> bool:
        token = None if self._token is None else self._token()
        if token not in (connection.token, self._refused_token):
            return True
        return self._wire.clock() >= self._replace_at

    async def _replaced(self, old: _Attempt, tasks: asyncio.TaskGroup) -> _Attempt:
        """Open a successor and leave the old connection when both have heard the same; what is current afterwards."""
        if await self._opens.claim(self._host) > 0:
            self._replace_at = self._wire.clock() + self._rules.reconnect.longest
            return old
        if self._pausing.is_set():
            self._opens.closed(self._host)
            return old
        new = self._start(tasks)
        await new.decided()
        patience = self._wire.clock() + 2 * self._wire.idle_seconds
        while not (new.task.done() or old.task.done() or self._overlap(old, new) or self._wire.clock() > patience):
            await asyncio.wait([new.task, old.task], timeout=self._rules.look, return_when=asyncio.FIRST_COMPLETED)
        if new.task.done():
            self._stay(old, new)
            return old
        old.connection.leave()
        await asyncio.wait([old.task])
        self._listens()
        return new

    def _overlap(self, old: _Attempt, new: _Attempt) -> bool:
        """Return whether both are proven to have listened at the same time for long enough."""
        before, after = old.connection.listening, new.connection.listening
        if before is None or after is None:
            return False
        return min(before.proven, after.proven) >= after.began + self._rules.overlap

    def _stay(self, old: _Attempt, new: _Attempt) -> None:
        """Lose a successor before it was one: go on with the old connection, and try again later."""
        loss = new.task.result()
        self._last = old.connection
        self._refused_token = new.connection.token
        now, least = self._wire.clock(), self._rules.reconnect.longest
        wait, self._patience_with_successor = self._patience_with_successor.after(loss, now, None, self._draw)
        self._replace_at = now + max(wait, least)
        self._doubt_id(new.connection, loss, self._patience_with_successor)
        log.warning(
            "stream_not_replaced",
            source=self._wire.origin.source,
            stream=self._number,
            cause=loss.cause.value,
            reason=loss.reason,
        )

    async def _recover(self, loss: Loss) -> None:
        """Wait as the loss asks for."""
        wait, self._patience = self._patience.after(loss, self._wire.clock(), self._retry, self._draw)
        if self._last is not None:
            self._doubt_id(self._last, loss, self._patience)
        if loss.cause is Cause.UNAUTHORIZED:
            self._enter_refused(loss, wait)
            await self._nap_until_new_token(wait)
        else:
            self._enter_waiting(loss, wait)
            await self._nap(wait)
        if not self._pausing.is_set():
            self._reconnecting(loss.cause)

    def _doubt_id(self, refused: Connection, loss: Loss, patience: Patience) -> None:
        """Never again ask for what follows an id that upstream does not take. What came since lies in the gap."""
        if not loss.of_request or 0 < patience.refusals < _REFUSALS_OF_ID:
            return
        self._refused_id = refused.last_event_id
        if self._refused_id is not None:
            log.warning("stream_not_resumed", source=self._wire.origin.source, stream=self._number, reason=loss.reason)

    async def _nap_until_new_token(self, seconds: float) -> None:
        """Wait after a refusal, which may have been a proxy's moment; a token that was not tried yet need not."""
        refused = None if self._last is None else self._last.token
        until = self._wire.clock() + seconds
        while not self._pausing.is_set() and (left := until - self._wire.clock()) > 0:
            if self._token is not None and self._token() != refused:
                self._patience = Patience(self._rules.reconnect)
                return
            await self._nap(min(left, self._rules.token))

    def _enter_refused(self, loss: Loss, wait: float) -> None:
        known = self._state.state == "refused" and self._state.reason == loss.reason
        self._enter("refused", loss, wait=wait)
        if not known:  # once, not at every attempt
            log.error("stream_refused", source=self._wire.origin.source, stream=self._number, reason=loss.reason)

    def _enter_waiting(self, loss: Loss, wait: float) -> None:
        self._enter("waiting", loss, wait=wait)
        log.warning(
            "stream_lost",
            source=self._wire.origin.source,
            stream=self._number,
            cause=loss.cause.value,
            reason=loss.reason,
            next_attempt_seconds=round(wait, 1),
        )

    def _enter_unless_refused(self, state: str, *, reason: str | None = None, wait: float | None = None) -> None:
        """Enter a state, but for refused: that stays until an attempt says otherwise."""
        if self._state.state != "refused":
            self._enter(state, reason=reason, wait=wait)

    def _enter(
        self, state: str, loss: Loss | None = None, *, reason: str | None = None, wait: float | None = None
    ) -> None:
        now, before = self._wire.now(), self.state
        self._state = StreamState(
            stream=self._number,
            state=state,
            since=before.since if state == before.state else now,
            last_byte_at=before.last_byte_at,
            lost=loss.cause if loss else before.lost,
            reason=None if state == "listening" else loss.reason if loss else reason or before.reason,
            next_attempt_at=None if wait is None else now + timedelta(seconds=wait),
        )
        self._changed()

    async def _nap(self, seconds: float) -> None:
        """Sleep, or less where the stream is paused."""
        await wait_at_most(self._pausing, seconds)
