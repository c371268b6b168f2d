"""One handler's work while it holds its cursor: read ahead, deliver in lanes, save the position, try again what failed.

The cursor passes an event when it is delivered or parked, never before, so a crash can only repeat deliveries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog

from app.dispatcher.checkpointer import Checkpointer
from app.dispatcher.context import STORE_AWAY, HandlerContext
from app.dispatcher.gate import Gate
from app.dispatcher.probes import Probes
from app.dispatcher.suspects import Suspects
from app.dispatcher.window import Window
from app.dispatcher.worker import Worker
from app.handlers.filters import make_filter
from ingest.deliveries import CLOSED, Circuit, CircuitState, Seen
from ingest.errors import LeaseLost, StoreFault, StoreRewound, StoreUnavailable
from ingest.protocols import Cursor
from ingest.retrying import Pauses, is_cancelled, wait_at_most

_MORE_SECONDS = 0.05
_LONGEST_ROUND_SECONDS = 4.0  # a redrive by another process is to be noticed within five
LAST_SAVE_SECONDS = 3.0
_LOOK_SECONDS = 0.1
_CLINGING_SECONDS = 1.0  # for code that does not let itself be cancelled

log = structlog.get_logger(__name__)


class AllLeftBehindError(Exception):
    """As many calls as may be were left behind."""


class PauseOverError(Exception):
    """The handler was paused, and somebody has resumed it."""


class WantedElsewhereError(Exception):
    """Another process is to deliver."""


class LeaseSession:
    """Delivers what follows `cursor`, in front of which the devices of `waiting` have parked events.

    `asked_at`: the loop time at which the cursor was asked for.
    """

    def __init__(self, context: HandlerContext, cursor: Cursor, waiting: Iterable[str], asked_at: float) -> None:
        self._context = context
        self._cursor = cursor
        settings = context.settings
        by_device = settings.order == "device"
        self._window = Window(
            cursor.position,
            waiting if by_device else (),
            context.limits,
            by_device=by_device,
            workers=settings.concurrency,
            in_batches=settings.batch.events > 1,
            had=cursor.ahead,
        )
        longest = 2 * settings.retry.cap
        self._checkpointer = Checkpointer(
            cursor, self._window, context.clock, asked_at=asked_at, by_device=by_device, longest=longest
        )
        self._gate = Gate(settings, self._window, context.clock, context.limits.remembered_seconds)
        self._probes = Probes(self._gate, self._window, self._checkpointer)
        self._shown = CLOSED
        self._workers: set[asyncio.Task[Any]] = set()
        self._wants = make_filter(context.settings)

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until told to stop, by `stopping` or for another process, a pause is over, or too much is left behind.

        Then what is in flight may finish, and the cursor is given back. Raises LeaseLost in an exception group if
        another process took the cursor, StoreRewound if the database was put back. A cancelled session is like a crash.
        """
        await self._begin()
        try:
            async with asyncio.TaskGroup() as group:
                steps = (self._read, self._retry, self._show, self._probes.try_one)
                taking_up = [group.create_task(self._forever(step)) for step in steps]
                saving = group.create_task(self._forever(self._save))
                taking_up.append(group.create_task(self._employ(group)))
                try:
                    await stopping.wait()
                finally:
                    self._window.closed = True
                for task in taking_up:
                    task.cancel()
                await self._drain()
                for task in (saving, *self._workers):
                    task.cancel()
        except* PauseOverError:
            log.info("resumed", handler=self._context.label)
        except* WantedElsewhereError:
            log.info("handed_over", handler=self._context.label)
        except* AllLeftBehindError:
            log.error("calls_left_behind", handler=self._context.label, calls=self._context.left_behind.calls)
        finally:
            self._gate.close()
            self._context.metrics.count()
            self._context.metrics.stands_down()
        await self._give_back()

    async def _begin(self) -> None:
        """Go on with the circuit and the pause that are in the store, and look for what ended the last process."""
        context, deaths = self._context, self._cursor.deaths
        if deaths is not None and context.settings.runs_apart:
            log.warning(
                "events_tried_singly", handler=context.label, because="the process died", deaths=sum(deaths.values())
            )
            self._gate.watch(Suspects(self._cursor, deaths, context.limits, context.random.uniform))
        lag = await self._cursor.lag()
        self._shown = lag.circuit
        self._gate.restore(lag.circuit)
        self._gate.obey(lag.pause)

    async def _employ(self, group: asyncio.TaskGroup) -> None:
        """Start the workers; a single one until all that may have ended the last process has been tried."""
        suspects = self._gate.suspects
        if suspects is not None:
            self._workers.add(group.create_task(self._keep_at_work()))
            while not suspects.are_through(self._window):  # noqa: ASYNC110 - reading, fetching and delivering end it
                await asyncio.sleep(_LOOK_SECONDS)
            self._gate.watch(None)
            await suspects.end()
        for _ in range(self._context.settings.concurrency - len(self._workers)):
            self._workers.add(group.create_task(self._keep_at_work()))

    async def _drain(self) -> None:
        """Let the other workers finish what they have in hand, as long as a stop waits."""
        self._window.close()
        others = self._workers - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=self._context.limits.drain_seconds)

    async def _keep_at_work(self) -> None:
        """Have one worker at work, and another one when it does not come back from a call; raise what it raises."""
        behind = self._context.left_behind
        while not self._window.closed:
            worker = Worker(self._context, self._window, self._checkpointer, self._gate)
            work = asyncio.create_task(worker.run())
            try:
                await asyncio.wait((work, worker.gone), return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                self._window.closed = True
                work.cancel()
                await asyncio.wait((work,), timeout=_CLINGING_SECONDS)
                raise
            if not worker.gone.done():
                work.result()
                return
            behind.calls += 1
            if behind.is_full() and not self._window.closed:
                await self._drain()
                raise AllLeftBehindError

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        """Repeat a step until cancelled; where the store is away, with growing pauses. What is no outage is raised."""
        try:
            await self._repeat(step)
        except Exception:
            self._window.closed = True  # what cancels the workers next is no handler of theirs
            raise

    async def _repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        pauses = Pauses(STORE_AWAY, self._context.random.uniform)
        while not is_cancelled():
            try:
                await step()
                pauses.reset()
            except StoreFault:
                raise
            except StoreUnavailable as error:
                seconds = pauses.next_seconds()
                log.warning(
                    "store_unavailable", handler=self._context.label, error=str(error), again_in=round(seconds, 1)
                )
                await asyncio.sleep(seconds)

    async def _read(self) -> None:
        """Read on as soon as there is room and something to read."""
        await self._window.wait_for_room()
        after = self._window.read_to
        events = await self._context.feed.read(after, self._context.limits.read_events)
        if events:
            self._window.admit(events, self._wants)
            self._checkpointer.seen = Seen(events[-1].position or after, events[-1].id)
        else:
            if self._gate.suspects is not None:
                self._gate.suspects.caught_up = True
            await self._context.feed.wait(after)

    async def _retry(self) -> None:
        """Take up parked rows when they are due, and now and again those that another process gave back."""
        time, limits, more = asyncio.get_running_loop().time, self._context.limits, False
        started = time()
        if not self._gate.stands_still:
            more = await self._checkpointer.fetch_due(limits.retry_events)
            if self._gate.suspects is not None and not more:
                self._gate.suspects.all_fetched = True
        took = time() - started
        least = min(max(min(_MORE_SECONDS, limits.round_seconds), (3 if more else 10) * took), _LONGEST_ROUND_SECONDS)
        most = least if more else min(max(least, limits.round_seconds), _LONGEST_ROUND_SECONDS)
        await self._window.due.wait(least, most, self._context.clock)

    async def _show(self) -> None:
        context, gate = self._context, self._gate
        context.metrics.count()
        gate.changed.clear()
        if gate.circuit != self._shown:
            await self._show_circuit(gate.circuit)
        if gate.pause_because is not None:
            await self._pause(gate.pause_because)
        if self._cursor.wanted_elsewhere:
            await self._drain()
            raise WantedElsewhereError
        lag = await self._cursor.lag()
        gate.obey(lag.pause)
        context.metrics.show_lag(lag, context.clock())
        if gate.is_pause_over:  # the work begins anew at the cursor: retention may have taken what is here
            await self._drain()
            raise PauseOverError
        await wait_at_most(gate.changed, context.limits.round_seconds)

    async def _pause(self, because: str) -> None:
        await self._context.cursors.pause(self._context.label, because)
        self._gate.pause_written()
        log.error("paused", handler=self._context.label, because=because, consequence="until somebody resumes it")

    async def _show_circuit(self, circuit: Circuit) -> None:
        await self._cursor.show_circuit(circuit)
        was, self._shown = self._shown, circuit
        if CircuitState.CLOSED in {was.state, circuit.state} and was.state is not circuit.state:
            say = log.info if circuit.state is CircuitState.CLOSED else log.error
            say("circuit", handler=self._context.label, state=circuit.state.value, last_error=circuit.last_error)

    async def _save(self) -> None:
        await wait_at_most(self._window.plenty, self._context.limits.save_seconds)
        await self._checkpointer.save()

    async def _give_back(self) -> None:
        try:
            async with asyncio.timeout(LAST_SAVE_SECONDS):
                await self._checkpointer.save()
                if self._gate.suspects is not None:
                    await self._gate.suspects.end()
                await self._cursor.release()
        except (StoreUnavailable, LeaseLost, StoreRewound, TimeoutError) as error:
            log.warning("cursor_not_saved", handler=self._context.label, error=str(error), consequence="redelivery")
