"""The webhook source: an endpoint that answers 204 only after the commit.

It is a plain ASGI application in front of the FastAPI app and not inside it: there the framework, not the disk, would
be the cost. Our own server takes the shorter way in (`answer`) for small whole requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from ingest.credentials import Credentials, Upkeep
from ingest.errors import TooLarge
from ingest.event import Origin, Outcome, Reason, Record, Reject
from ingest.formats.body import MalformedGzip, gunzip
from ingest.intake import SourceIntake
from ingest.metrics import Metrics
from ingest.ports import Condition, Coverage, Format, LastSeen
from ingest.sources.answers import ANSWERS, Answer
from ingest.sources.attendance import Attendance

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# What is read and thrown away of a body that is too large, so that the sender hears 413 and not a broken pipe.
_DISCARD_BYTES = 16 * 1024 * 1024

log = structlog.get_logger(__name__)


class Disconnected(Exception):
    """The sender went away in the middle of the body."""


class UnknownEncoding(Exception):
    """A Content-Encoding that is not gzip."""


@dataclass(frozen=True, slots=True)
class WebhookRules:
    """What one endpoint accepts. Sizes in bytes, inflated. How long a body may take is the server's to bound."""

    max_body: int
    refuse_rejects: bool
    forbids: Callable[[Mapping[str, str]], bool]


class WebhookSource:
    """ports.Source for requests to one path; also the ASGI endpoint that receives them."""

    def __init__(
        self,
        origin: Origin,
        rules: WebhookRules,
        credentials: Credentials,
        format_: Format,
        intake: SourceIntake,
        coverage: Coverage,
        metrics: Metrics,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        upkeep: Upkeep | None = None,
    ) -> None:
        self._origin = origin
        self._rules = rules
        self._credentials = credentials
        self._upkeep = upkeep
        self._format = format_
        self._intake = intake
        self._attendance = Attendance(coverage, origin, clock, monotonic)
        self._metrics = metrics
        self._clock = clock
        self._paused = False
        metrics.declare_webhook(origin.source)
        self._count_answer = {code: metrics.responses.labels(origin.source, str(code)).inc for code in ANSWERS}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of an ASGI server."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def reply(answer: Answer) -> None:
            if not answered.done():  # the server may have given the request up
                answered.set_result(answer)

        try:
            if not self._refused(scope["method"], headers, reply):
                body = await self._read(receive)
                self._take(headers, scope["query_string"], body, reply)
        except TooLarge:
            self._reply(413, reply)
        except Disconnected:
            return
        answer = await answered
        await send(answer.start)
        await send(answer.body)

    def answer(
        self, method: str, headers: Mapping[str, str], query: bytes, body: bytes, reply: Callable[[Answer], None]
    ) -> None:
        """Answer one request that is there as a whole: `reply` is called once, now or after the commit.

        For a server that has no task for each request; `headers` have lower-case names.
        """
        if len(body) > self._rules.max_body:
            self._reply(413, reply)
        elif not self._refused(method, headers, reply):
            self._take(headers, query, body, reply)

    async def run(self) -> None:
        """Record, until cancelled, that this endpoint is listening; and keep its credentials up."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._attendance.run())
            if self._upkeep is not None:
                tasks.create_task(self._upkeep.run())

    async def pause(self) -> None:
        """Answer 503 from now on, and record that nothing is taken any more."""
        self._paused = True
        await self._attendance.stop()

    def last_seen(self) -> LastSeen:
        """See ports.Source."""
        return self._intake.last_seen()

    def condition(self) -> Condition:
        """Up until it is paused, unless nobody can be let in: whether requests come is the sender's affair."""
        trouble = None if self._upkeep is None else self._upkeep.trouble()
        return Condition(up=not self._paused and trouble is None, reason=trouble)

    def _reply(self, code: int, reply: Callable[[Answer], None]) -> None:
        self._count_answer[code]()
        reply(ANSWERS[code])

    def _refused(self, method: str, headers: Mapping[str, str], reply: Callable[[Answer], None]) -> bool:
        """Whether the request was answered without a look at its body."""
        if method not in {"POST", "PUT"}:
            self._reply(405, reply)
        elif self._rules.forbids(headers):
            self._reply(403, reply)
        elif self._paused:
            self._reply(503, reply)
        else:
            return False
        return True

    def _take(self, headers: Mapping[str, str], query: bytes, body: bytes, reply: Callable[[Answer], None]) -> None:
        """Verify, decode and submit; the answer follows from what becomes of the records."""
        received_at = self._clock()
        self._intake.heard(received_at)
        admitted = self._credentials.admits(headers, query, body)
        if not admitted:
            self._turn_away(admitted, reply)
            return
        try:
            records = self._decode(headers, body, received_at)
            self._intake.submit(records, lambda outcomes: self._reply(self._worst(outcomes), reply))
        except TooLarge:
            self._reply(413, reply)
        except UnknownEncoding:
            self._reply(415, reply)
        except Exception:  # a fault of ours is ours to mend: the sender is told to send again, never 4xx or 500
            log.exception("webhook_failed", source=self._origin.source)
            self._reply(503, reply)

    def _turn_away(self, admitted: bool | None, reply: Callable[[Answer], None]) -> None:
        """Unless it is certain that the sender is at fault, it should come again."""
        if admitted is None:
            self._reply(503, reply)
        else:
            self._metrics.auth_failures.labels(self._origin.source).inc()
            self._reply(401, reply)

    def _decode(self, headers: Mapping[str, str], body: bytes, received_at: datetime) -> Sequence[Record]:
        if "content-encoding" in headers:
            encoding = headers["content-encoding"].strip().lower()
            if encoding in {"gzip", "x-gzip"}:
                return self._decode_gzip(headers, body, received_at)
            if encoding not in {"", "identity"}:
                raise UnknownEncoding(encoding)
        return self._format.decode(body, headers, received_at)

    def _decode_gzip(self, headers: Mapping[str, str], body: bytes, received_at: datetime) -> Sequence[Record]:
        try:
            inflated = gunzip(body, self._rules.max_body)
        except MalformedGzip:
            return [
                Reject(
                    source=self._origin.source,
                    mode=self._origin.mode,
                    received_at=received_at,
                    reason=Reason.MALFORMED_GZIP,
                    body=body,
                )
            ]
        return self._format.decode(inflated, headers, received_at)

    def _worst(self, outcomes: Sequence[Outcome]) -> int:
        """A batch is answered by its worst element."""
        if Outcome.DEFERRED in outcomes:
            return 503
        return 422 if self._rules.refuse_rejects and Outcome.REJECTED in outcomes else 204

    async def _read(self, receive: Receive) -> bytes:
        """The body, by counting its bytes whatever Content-Length says. Raises TooLarge, Disconnected."""
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False) and len(body) <= self._rules.max_body:
            return body
        return await self._read_rest(receive, message)

    async def _read_rest(self, receive: Receive, message: Message) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            if message["type"] == "http.disconnect":
                raise Disconnected
            chunk = message.get("body", b"")
            size += len(chunk)
            if size <= self._rules.max_body:
                chunks.append(chunk)
            else:
                chunks.clear()
            if not message.get("more_body", False) or size > self._rules.max_body + _DISCARD_BYTES:
                break
            message = await receive()
        if size > self._rules.max_body:
            raise TooLarge(f"a body of more than {self._rules.max_body} bytes")
        return b"".join(chunks)
