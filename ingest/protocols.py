"""Every seam of Headrace as a Protocol. Read this first: the rooms on either side only know these shapes.

Format  ->  Source  ->  Intake  ->  Inbox  ->  Store  ==>  Feed  ->  Handler (by a Cursor)
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence, Set
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from ingest.coverage import Gap, Opened
from ingest.deliveries import Answer, Circuit, HandlerLag, Parked, Pause, Seen
from ingest.event import Cause, Commit, Event, Origin, Outcome, Record
from ingest.formats.message import Message
from ingest.leases import Lease
from ingest.source_health import Condition, LastSeen

if TYPE_CHECKING:  # it loads httpx, which commands that read the store do without
    from ingest.formats.sse import Frame


class Format(Protocol):
    """Bytes to records, pure: what one kind of sender writes. Made for one Origin (product, source, mode)."""

    @property
    def headers(self) -> Set[str]:
        """The names of the headers that it reads, in lower case."""
        ...

    def decode(self, body: bytes, headers: Mapping[str, str], received_at: datetime) -> Sequence[Record]:
        """Return every element of an inflated body, in order; `headers` have lower-case names.

        An element that cannot be decoded is a Reject in its place. Never raises because of what was sent, except
        TooLarge for more than 10,000 elements.
        """
        ...


class FrameFormat(Protocol):
    """As Format, for the frames of a stream."""

    def decode_frames(self, frames: Sequence[Frame], stream: int, received_at: datetime) -> Sequence[Record]:
        """Return a record for each frame, in order; `stream` is the connection's number.

        Never raises for what was sent.

        A frame that cannot be decoded is a Reject with its text, an oversized one a TOO_LARGE with its beginning.
        """
        ...


class MessageFormat(Protocol):
    """As Format, for the messages of a queue."""

    def decode_message(self, message: Message, received_at: datetime) -> Sequence[Record]:
        """Return what a message says: one record, or several where its sender puts many into one.

        Never raises for what was sent, except TooLarge for more than 10,000.

        A Reject keeps the message's data and attributes.
        """
        ...


class Intake(Protocol):
    """One source's way in."""

    async def settle(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """Commit the records together and return what became of each, in order. They are durable when this returns.

        Outcome.DEFERRED: it was not stored in time, and the sender should send it again. Raises TooLarge where the
        records are more than the inbox can ever hold. Cancelling the caller does not take the records back.
        """
        ...

    async def offer(self, records: Sequence[Record]) -> asyncio.Future[Sequence[Outcome]]:
        """Do as `settle`, where nobody will send the records again: they are held until they can be committed.

        Returns when the inbox has room for them, so a reader that waits here reads no more meanwhile; the future has
        the outcomes when they are settled. DEFERRED is among them only where the inbox closes before they are
        committed, or fails by a fault of ours. Raises TooLarge.
        """
        ...


class Source(Protocol):
    """One delivery mode of one configured source. It is run by the supervisor and feeds an Intake."""

    async def run(self) -> None:
        """Receive until cancelled."""
        ...

    async def pause(self) -> None:
        """Take nothing new any more; what was taken will still be settled."""
        ...

    def last_seen(self) -> LastSeen:
        """Return when the source last heard something."""
        ...

    def condition(self) -> Condition:
        """Return whether the source can receive now."""
        ...


class Coverage(Protocol):
    """The record of when a stream of a source was listening: what no interval covers is a gap.

    `extend` and `end` raise IntervalLost where the database was put back to a time before what was written of the
    interval: then nothing was changed, and another one has to be opened. Where a call raises StoreUnavailable, it may
    have happened, if it was the answer to its COMMIT that was lost: `extend` and `end` can be repeated, and the next
    `open` ends an interval that nobody knows of.
    """

    async def open(self, origin: Origin, stream: int, ago: float = 0.0) -> Opened:
        """Begin an interval, `ago` seconds before now, by the database's clock. Raises StoreUnavailable.

        It takes over from processes that died: what their streams left open ends where they last listened, and what no
        interval covers since then is a gap with cause DOWN. One that was heard of within three seconds lives.
        """
        ...

    async def extend(self, interval: int, ago: float = 0.0) -> None:
        """Note that the stream listened until `ago` seconds before now; never moves an end back.

        Raises StoreUnavailable.
        """
        ...

    async def is_relieved(self, origin: Origin, stream: int) -> bool:
        """Return whether another process has listened to the stream as long beside this one as leaves no gap.

        Raises StoreUnavailable.
        """
        ...

    async def end(self, interval: int, cause: Cause, ago: float = 0.0) -> Sequence[Gap]:
        """Do as `extend`, for the last time; return the gaps that begin or show by it. Raises StoreUnavailable.

        While another stream of the source and mode listens there is none, unless that one began less than a second
        before this one ended, or is known by now to have been deaf itself.
        """
        ...


class Leases(Protocol):
    """What one process at a time does, of all that share the store. Names: see ingest.leases.

    They spread over the processes: each takes what is free and gives back what another should have. A lease of a
    process that died moves within 15 s, one of a process that leaves at once. It is no fence: a process that was
    suspended learns late that it has lost one, so what must not happen twice is fenced where it is written.
    """

    @property
    def holder(self) -> str:
        """Return the name of this process: another one at each start."""
        ...

    @property
    def peers(self) -> int:
        """Return how many others would take what this process gives back, by its last look."""
        ...

    def lease(self, name: str) -> Lease:
        """Return a lease that this process would have; the same for the same name."""
        ...

    async def join(self) -> None:
        """Let others know of this process, in bounded time."""
        ...

    async def run(self) -> None:
        """Take, keep and give back until cancelled."""
        ...

    async def leave(self) -> None:
        """Give all back, for good, where there are others; in bounded time. It still counts as one that lives."""
        ...

    async def close(self) -> None:
        """Count no more as one that lives; in bounded time."""
        ...


class Opens(Protocol):
    """The budget of streams that are opened to a host, shared by all that it may take for one client."""

    async def claim(self, host: str) -> float:
        """Return 0.0, and count an open that lasts; or, where there is none left, in how many seconds to ask again."""
        ...

    def closed(self, host: str) -> None:
        """Note that one that was claimed is open no more; it may count a little longer."""
        ...


class Store(Protocol):
    """Durable, deduplicated, in order of commit."""

    async def commit(self, records: Sequence[Record]) -> Commit:
        """Write a batch in one transaction, fsynced, and say what became of each record.

        Of equal ids the first is STORED. A record that cannot be stored is kept as a Reject; where not even that can be
        stored it is DEFERRED, alone. Raises StoreUnavailable if nothing was committed, as far as the store can be
        asked: if it was after all, the same records are duplicates when they are committed again.
        """
        ...


class Feed(Protocol):
    """The store's tail: committed events by position."""

    async def read(self, after: int, limit: int) -> Sequence[Event]:
        """Return at most `limit` events with position > `after`, ascending; empty where there are none yet.

        Raises StoreRewound where the store ends before `after` and did not before.
        """
        ...

    async def wait(self, after: int) -> None:
        """Return when an event behind `after` may be there; at the latest after five seconds."""
        ...


class Cursor(Protocol):
    """One handler's place in the feed, and what it left parked behind it. Held by one process at a time.

    Every write is fenced by the epoch of the lease and raises LeaseLost, having changed nothing, if another process
    took the cursor over. Everything here raises StoreUnavailable where the store is away; a write may have happened
    then, if it was the answer to its COMMIT that was lost, and can be repeated.

    A write raises StoreRewound, having changed nothing, if the database was put back since the cursor was acquired.
    """

    @property
    def position(self) -> int:
        """All events up to here are delivered, parked, or not for this handler."""
        ...

    @property
    def ahead(self) -> Set[int]:
        """The positions beyond `position` that were delivered already when the cursor was acquired."""
        ...

    @property
    def pause(self) -> Pause | None:
        """Whether the handler was paused when the cursor was acquired or `lag` was asked last."""
        ...

    @property
    def wanted_elsewhere(self) -> bool:
        """Whether to give the cursor back: its lease is another process's to have."""
        ...

    @property
    def deaths(self) -> Mapping[int, int] | None:
        """Where the last holder died without releasing the cursor: how often each marked position was the last one.

        None where the cursor was released in good order, or nobody had it. Empty: it died, and nothing was marked.
        """
        ...

    async def advance(
        self,
        position: int,
        parked: Sequence[Parked] = (),
        delivered: Sequence[int] = (),
        *,
        seen: Seen | None = None,
        unmatched: int = 0,
        skipped: int = 0,
        ahead: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Move on, write parked rows and delete those of delivered positions, in one transaction; renew the lease.

        `position` may be the present one, and `seen` is the last event that was read, by which a database that was put
        back is known. Of the positions that are passed now, `unmatched` are events that are not for this handler, and
        `skipped` events that retention took before it had them; what is neither of these nor parked was delivered.
        `ahead`: runs (first, last) of what is delivered beyond `position`. The lease holds for LEASE_SECONDS.
        """
        ...

    async def mark(self, position: int | None) -> None:
        """Note that the delivery of one event begins, and the one marked before is over; None: none begins.

        If the process ends before the next mark, this event is suspected of it.
        """
        ...

    async def show_circuit(self, circuit: Circuit) -> None:
        """Let others see the state of the circuit."""
        ...

    async def due(
        self, now: datetime, limit: int, *, by_device: bool, beyond: datetime | None = None
    ) -> Sequence[tuple[Parked, Event]]:
        """Return parked rows whose time has come, the longest due first.

        `by_device` gives only the first row of each device.

        A first row that is not due yet holds back the others of its device. Events without a device are independent.
        A row that is due later than `beyond` is due now: a clock that has been put back since made its time.
        """
        ...

    async def behind(self, devices: Sequence[str], limit: int) -> Mapping[str, Sequence[tuple[Parked, Event]]]:
        """Return at most `limit` first parked rows of each device that are not dead, by position, due or not."""
        ...

    async def waiting_devices(self) -> Sequence[str]:
        """Return devices that have parked rows which are not dead: their later events wait behind these."""
        ...

    async def lag(self) -> HandlerLag:
        """Return how far the handler is, by what the store knows."""
        ...

    async def release(self) -> None:
        """Let another process have the cursor at once; nothing happens where one has it already."""
        ...


class Cursors(Protocol):
    """The cursors of handlers."""

    async def acquire(self, handler: str, *, holder: str, begin: Literal["now", "beginning"]) -> Cursor | None:
        """Return the handler's cursor, leased to `holder`; None while another process has it.

        A handler that has none yet begins behind the last event (`now`) or before the first (`beginning`).
        """
        ...

    async def pause(self, handler: str, because: str) -> None:
        """Let the handler deliver nothing until somebody resumes it. Raises StoreUnavailable."""
        ...


class Handler(Protocol):
    """The receiver of events after the store. At least once each; `event.id` is the idempotency key."""

    async def deliver(self, events: Sequence[Event]) -> None:
        """Return when all of the events are handled: one, or as many as its `batch` allows, each device's in order.

        Raise DeadLetter to give a single event up at once, anything else to be retried. The events of a batch fail
        together, and are then delivered one by one.
        """
        ...

    async def close(self) -> None:
        """Let go of what the handler holds open."""
        ...


@runtime_checkable
class Answering(Protocol):
    """A Handler may be one too: its receiver answers, for whoever tries the handler out."""

    async def answer(self, events: Sequence[Event]) -> Answer:
        """Deliver, and return what the receiver answered. Raises as `deliver` does."""
        ...
