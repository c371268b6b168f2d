"""What keeps a handler's deliveries from beginning: its circuit, a pause, a receiver that asked to wait, its rate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from app.dispatcher.circuit import CircuitBreaker
from app.dispatcher.lanes import Delivery, Lane
from app.dispatcher.rate_limit import RateLimit
from app.dispatcher.suspects import Suspects
from app.dispatcher.window import Window
from ingest.deliveries import CLOSED, Circuit, CircuitState, Pause
from ingest.delivery import DeliveryFailed, Verdict, text_of
from ingest.retrying import wait_at_most
from ingest.settings.handlers import HandlerSettings

_LONG_SECONDS = 3600.0


class Gate:
    """Asked before a delivery begins while it is `in_force`, and told how it ended while it is `troubled`.

    While it is shut the window's lanes are held: nothing is taken, so nothing is parked or grows older.
    `circuit` is the state for others to see, `pause_because` why the receiver wants a pause that is to be written into
    the store; `changed` is set with either. A pause of more than `remembered_seconds` that `is_pause_over` stays in
    force here: retention may have taken what is in the window.
    """

    def __init__(
        self, settings: HandlerSettings, window: Window, clock: Callable[[], datetime], remembered_seconds: float
    ) -> None:
        self.in_force = False
        self.troubled = False
        self.circuit = CLOSED
        self.changed = asyncio.Event()
        self.is_pause_over = False
        self.pause_because: str | None = None
        self.suspects: Suspects | None = None
        self._breaker = CircuitBreaker(settings.circuit.failures, settings.circuit.probe.total_seconds())
        self._limit = None if settings.rate is None else RateLimit(settings.rate)
        self._cap_seconds = settings.retry.cap.total_seconds()
        self._window = window
        self._clock = clock
        self._remembered_seconds = remembered_seconds
        self._loop = asyncio.get_running_loop()
        self._not_before = 0.0
        self._paused = False
        self._paused_at = 0.0
        self._probe: Lane | None = None
        self._probe_may_begin = False
        self._timer: asyncio.TimerHandle | None = None
        self._news = asyncio.Event()
        self._opened_at: datetime | None = None
        self._closed_at: datetime | None = None
        self._update()

    @property
    def stands_still(self) -> bool:
        """Return whether the handler delivers nothing until its receiver is back, or somebody resumes it."""
        return self._breaker.is_open or self._paused or self.pause_because is not None

    def restore(self, circuit: Circuit) -> None:
        """Begin with the circuit as the cursor's last holder left it; where that was open, with a probe at once."""
        if circuit.state is CircuitState.CLOSED:
            self.circuit = circuit
        elif self._breaker.failures:
            self._opened_at = circuit.since
            self._breaker = self._breaker.opened(self._loop.time())
            self.circuit = Circuit(CircuitState.OPEN, circuit.since, circuit.last_error)
            self._update()

    def obey(self, pause: Pause | None) -> None:
        """Follow what the store says of a pause."""
        if pause is not None:
            if not self._paused:
                self._paused, self._paused_at = True, self._loop.time()
            self._update()
        elif self._paused and self._loop.time() - self._paused_at < self._remembered_seconds:
            self._paused = False
            self._update()
        elif self._paused:
            self.is_pause_over = True

    def pause_written(self) -> None:
        """Note that the pause which the receiver wanted is in the store."""
        self._paused, self._paused_at, self.pause_because = True, self._loop.time(), None

    def watch(self, suspects: Suspects | None) -> None:
        """Have each event marked before its delivery begins, or no longer."""
        self.suspects = suspects
        self._update()

    def admits(self, lane: Lane) -> bool:
        """Return whether the next delivery of a lane may begin now."""
        if lane is self._probe and self._probe_may_begin:
            self._probe_may_begin = False
            return True
        self._update()
        return not self._window.ready.held

    async def begin(self, batch: Sequence[Delivery]) -> DeliveryFailed | None:
        """Count and mark what was admitted; return why its delivery must not begin, if so. Raises as Suspects.begin."""
        if self._limit is not None:
            self._limit.spend(len(batch), self._loop.time())
            self._update()
        return None if self.suspects is None else await self.suspects.begin(batch[0])

    def is_single(self) -> bool:
        """Return whether events are tried one by one now."""
        return self._window.ready.held or self.suspects is not None

    def succeeded(self, lane: Lane) -> None:
        """Note that something was delivered: the receiver is there."""
        self._breaker, self._probe = self._breaker.succeeded(), None
        self._update()

    def failed(self, lane: Lane, failure: DeliveryFailed) -> None:
        """Note that an attempt failed. One that refuses an event says that the receiver is there."""
        now, is_probe = self._loop.time(), lane is self._probe
        if is_probe:
            self._probe = None
        if failure.retry_after is not None:
            self._not_before = max(self._not_before, now + min(failure.retry_after, self._cap_seconds))
        if failure.verdict is Verdict.PAUSE:
            self.pause_because = text_of(failure)
            self.changed.set()
        if failure.opens_circuit:
            at_once = failure.verdict is Verdict.OPEN
            breaker = self._breaker
            self._breaker = breaker.probe_failed(now) if is_probe else breaker.failed(now, at_once=at_once)
        elif is_probe:
            self._breaker = self._breaker.succeeded()
        self.circuit = self.circuit._replace(last_error=text_of(failure))
        self._update()

    async def wait_for_probe(self) -> None:
        """Return when an event should be tried though the circuit is open."""
        while (seconds := self._seconds_to_probe()) > 0:
            self._news.clear()
            await wait_at_most(self._news, seconds)

    def let_through(self, lane: Lane) -> None:
        """Try the first event of a lane that waits nowhere: as a probe, unless the circuit was closed meanwhile."""
        if not self._breaker.is_open:
            self._window.ready.put(lane)
            return
        self._probe, self._probe_may_begin = lane, True
        self._breaker = self._breaker.probing()
        self._update()
        self._window.ready.let_through(lane)

    def left(self, lane: Lane) -> None:
        """Note that a worker left a lane: a probe that had not begun by then came to nothing."""
        if lane is self._probe:
            self._probe = None
            self._breaker = self._breaker.probe_withdrawn()
            self._update()

    def open_since(self, attempt: datetime | None, now: datetime) -> timedelta:
        """Return how long the circuit was open since an attempt, the last time that it was."""
        if attempt is None or self._opened_at is None:
            return timedelta()
        return max((self._closed_at or now) - max(self._opened_at, attempt), timedelta())

    def _seconds_to_probe(self) -> float:
        if not self._breaker.is_open or self._probe is not None or self._paused or self.pause_because is not None:
            return _LONG_SECONDS
        return max(self._breaker.probe_at, self._not_before) - self._loop.time()

    def _update(self) -> None:
        """Hold the lanes, or let them go on, by all that is known now."""
        now = self._loop.time()
        opens_at = max(self._not_before, self._limit.opens_at(now) if self._limit else 0.0)
        is_shut = self.stands_still or opens_at > now
        self._show(self._breaker.state)
        self.in_force = is_shut or self._limit is not None or self.suspects is not None
        self.troubled = self._breaker.is_open or self._breaker.in_a_row > 0
        self._news.set()
        if is_shut and not self._window.ready.held:
            self._window.hold()
        elif not is_shut and self._window.ready.held:
            self._window.go_on()
        if opens_at > now and (self._timer is None or self._timer.when() > opens_at):
            self.close()
            self._timer = self._loop.call_at(opens_at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._update()

    def close(self) -> None:
        """Disarm the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _show(self, state: CircuitState) -> None:
        was = self.circuit.state
        if was is state:
            return
        now = self._clock()
        if was is CircuitState.CLOSED:
            self._opened_at, self._closed_at = now, None
        elif state is CircuitState.CLOSED:
            self._closed_at = now
        is_turn = CircuitState.CLOSED in {was, state}
        self.circuit = Circuit(state, now if is_turn else self.circuit.since, self.circuit.last_error)
        self.changed.set()
