"""One request for a stream, from its opening to its end: bytes become records, and what they prove is noted."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import httpx
import structlog

from ingest.decoding import AT_ONCE_BYTES, DecodingThread
from ingest.errors import TooLarge
from ingest.event import Cause, Event, Origin, Reason, Record, Reject
from ingest.formats.sse import KEPT_BYTES, Frame, FrameDecoder
from ingest.protocols import FrameFormat, Intake
from ingest.reconnect import Loss
from ingest.sources.sse.answers import explain
from ingest.sources.sse.coverage_tracker import CoverageTracker
from ingest.sources.sse.inflate import Identity, Inflater, inflater_for
from ingest.sources.sse.opening import judge_token, request_headers, stream_refusal
from ingest.sources.sse.recorder import Recorder
from ingest.sources.sse.tap import Tap

_FRAMES_AT_ONCE = 1000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Wire:
    """The parts that the connections of a source share.

    `clock` in seconds; `now` is the time of day; `on_byte` is told of each.

    `idle_seconds` without a byte end a connection; making one takes `connect_seconds` at most. What comes within
    `greeting` seconds of an answer belongs to it.
    """

    origin: Origin
    client: httpx.AsyncClient
    url: str
    idle_seconds: float
    connect_seconds: float
    format: FrameFormat
    intake: Intake
    recorder: Recorder
    clock: Callable[[], float]
    now: Callable[[], datetime]
    on_byte: Callable[[datetime], None]
    greeting: float = 2.0
    on_end: Callable[[], None] = lambda: None  # before a connection is judged
    thread: DecodingThread = field(default_factory=DecodingThread)

    @property
    def timeout(self) -> httpx.Timeout:
        """Return what one request may take; there is no waiting for a pool."""
        return httpx.Timeout(self.idle_seconds, connect=min(self.connect_seconds, self.idle_seconds), pool=None)


class _Left(Exception):
    """We were told to read no more."""


class Connection:
    """Runs once. `token` and `last_event_id` are what it is opened with.

    `opened` is done when upstream has answered with a stream, or cancelled when it never will.
    """

    def __init__(self, stream: int, wire: Wire, token: str | None, last_event_id: str | None) -> None:
        self.stream = stream
        self.token = token
        self.decoder = FrameDecoder()
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.opened_at = float("inf")
        self.last_byte_at: datetime | None = None
        self.fell_silent: bool | None = None  # whether it ended idle with nothing heard; None where it was never open
        self.listening: CoverageTracker | None = None
        self.tap: Tap | None = None
        self._given_id = last_event_id
        self._wire = wire
        self._inflater: Inflater = Identity()
        self._chunked = False
        self._frames: list[Frame] = []
        self._was_heard = False
        self._leaving = False
        self._task: asyncio.Task[object] | None = None

    @property
    def last_event_id(self) -> str | None:
        """Return the last id that upstream gave, on this connection or before it."""
        given = self.decoder.last_event_id
        return self._given_id if given is None else given

    @property
    def has_partial(self) -> bool:
        """Return whether a part of something came whose rest has not."""
        in_size = self._chunked and self.tap is not None and self.tap.in_chunk_size
        return self.decoder.partial or self._inflater.pending or in_size

    async def run(self) -> Loss:
        """Open, read until it is over, and say why it is. Whatever is raised ends this connection and no other."""
        self._task = asyncio.current_task()
        stopped = Loss(Cause.STOPPED, "stopped")
        loss = Loss(Cause.ERROR, "the source failed")  # unless we learn better
        try:
            loss = stopped if self._leaving else await self._live()
        except asyncio.CancelledError:
            if not self._leaving or self._task is None:
                raise
            self._task.uncancel()  # it was us
            loss = stopped
        except TooLarge as error:
            loss = Loss(Cause.ERROR, str(error))
        except Exception as error:  # nobody can list what libraries raise for all that an upstream may answer
            log.exception("stream_attempt_failed", source=self._wire.origin.source, stream=self.stream)
            loss = Loss(Cause.ERROR, f"the attempt failed ({type(error).__name__})")
        finally:
            if self.listening is not None and self.tap is not None:
                self._wire.on_end()
                self.listening.confirm(self.tap.reads)
                self.listening.over(loss.cause)
                self.fell_silent = loss.cause is Cause.IDLE and not self._was_heard
                self._wire.recorder.wake()
            self.opened.cancel()
        return loss

    def leave(self) -> None:
        """Read no more; what was read is offered first."""
        self._leaving = True
        if self._task is not None and (self.tap is None or self.tap.waiting):
            self._task.cancel()

    def abandon(self) -> None:
        """Leave at once, even what was read."""
        self._leaving = True
        if self._task is not None:
            self._task.cancel()

    async def _live(self) -> Loss:
        wire = self._wire
        if (unfit := judge_token(self.token)) is not None:
            return unfit
        headers = request_headers(self.token, self._given_id)
        try:
            async with asyncio.timeout(wire.connect_seconds + wire.idle_seconds) as deadline:
                async with wire.client.stream("GET", wire.url, headers=headers, timeout=wire.timeout) as response:
                    if (refused := await stream_refusal(response, self.token, wire.now())) is not None:
                        return refused
                    deadline.reschedule(None)
                    self._begin(response)
                    return await self._read(response)
        except _Left:
            return Loss(Cause.STOPPED, "stopped")
        except zlib.error:
            return Loss(Cause.ERROR, "upstream's gzip is broken")
        except TimeoutError:
            return Loss(Cause.IDLE, "connected, but no whole answer in time")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            ended = self.tap is not None and self.tap.ended
            return explain(error, listening=self.listening is not None, ended=ended, seconds=wire.idle_seconds)

    def _begin(self, response: httpx.Response) -> None:
        wire = self._wire
        self.opened_at = wire.clock()
        self.listening = CoverageTracker(self.stream, self.opened_at)
        wire.recorder.add(self.listening)
        self._inflater = inflater_for(response.headers.get("content-encoding", "")) or self._inflater
        self._chunked = "chunked" in response.headers.get("transfer-encoding", "").lower()
        self.tap = Tap(response.extensions["network_stream"], wire.clock, self._before_waiting, self._heard)
        self.opened.set_result(None)

    async def _read(self, response: httpx.Response) -> Loss:
        """Whatever came with one read of the network is offered together, before the next (see `_before_waiting`)."""
        feed, inflate, frames = self.decoder.feed, self._inflater.feed, self._frames
        try:
            async for chunk in response.aiter_raw():
                if self.last_byte_at is None:  # it came with the head of the answer
                    self._heard()
                for piece in inflate(chunk):
                    frames += feed(piece)
                    if len(frames) >= _FRAMES_AT_ONCE:
                        await self._offer_frames()
        except (httpx.HTTPError, OSError, zlib.error):
            await self._offer_frames()
            raise
        await self._offer_frames()
        return Loss(Cause.CLOSED, "upstream ended the stream")

    def _heard(self) -> None:
        self.last_byte_at = self._wire.now()
        self._was_heard = self._was_heard or self._wire.clock() - self.opened_at > self._wire.greeting
        self._wire.on_byte(self.last_byte_at)

    async def _before_waiting(self) -> None:
        if self._frames:
            await self._offer_frames()
        if self._leaving:
            raise _Left

    async def _offer_frames(self) -> None:
        if not self._frames:
            return
        decode = partial(self._wire.format.decode_frames, self._frames, self.stream, self._wire.now())
        largest = max(len(frame.raw) for frame in self._frames)
        records = decode() if largest <= AT_ONCE_BYTES else await self._wire.thread.run(decode)
        self._frames.clear()
        await self._offer(records)

    async def _offer(self, records: Sequence[Record]) -> None:
        """Back-pressure is here: while the inbox has no room, nothing is read."""
        assert self.listening is not None and self.tap is not None  # noqa: S101, PT018 - records come from a stream
        listening, clock = self.listening, self._wire.clock
        started, others = clock(), asyncio.Event()
        turn = asyncio.get_running_loop().call_soon(others.set)
        try:
            listening.offered(await self._wire.intake.offer(records))
        except TooLarge:
            await self._offer_less(records)
            return
        finally:
            turn.cancel()
        if others.is_set():  # only then we were made to wait, and are not merely short of the processor
            now = clock()
            listening.waited(now - started, now)
            if listening.held:
                self.tap.behind(now)

    async def _offer_less(self, records: Sequence[Record]) -> None:
        """Offer by halves; what alone is too large is kept as a Reject with its beginning.

        Raises TooLarge if that is too.
        """
        middle = len(records) // 2
        if middle:
            await self._offer(records[:middle])
            await self._offer(records[middle:])
        elif isinstance(record := records[0], Event):
            await self._offer([self._too_large(record)])
        else:
            raise TooLarge("the inbox cannot hold a single record: raise store.inbox_bytes")

    def _too_large(self, event: Event) -> Reject:
        return Reject(
            source=event.source,
            mode=event.mode,
            received_at=event.received_at,
            reason=Reason.TOO_LARGE,
            body=(event.data or b"")[:KEPT_BYTES],
        )
