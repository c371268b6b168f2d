"""The webhook source: an endpoint that answers 204 only after the commit.

It is a plain ASGI application in front of the FastAPI app and not inside it: there the framework, not the disk, would
be the cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import structlog

from ingest.decoding import AT_ONCE_BYTES, DecodingThread
from ingest.endpoint_coverage import EndpointCoverage, EndpointCoverageRules
from ingest.errors import TooLarge
from ingest.event import Origin, Outcome
from ingest.formats.gzip import InflatesTooFar
from ingest.intake import SourceIntake
from ingest.metrics import WEBHOOK_CODES, Metrics
from ingest.protocols import Coverage, Format
from ingest.source_health import Condition, LastSeen
from ingest.sources.webhook.answers import ANSWERS, Answer, unauthorized
from ingest.sources.webhook.auth_failures import AuthFailureLog
from ingest.sources.webhook.body_decoder import BodyDecoder, Decoded, UnknownEncoding
from ingest.sources.webhook.credentials import Credentials, KeyRefresher
from ingest.sources.webhook.request_log import RequestLog
from ingest.sources.webhook.unfinished import NoRoom, UnfinishedBodies, UnfinishedBody
from ingest.times import elapsed

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = structlog.get_logger(__name__)


class Disconnected(Exception):
    """The sender went away in the middle of the body."""


class TurnedAway(Exception):
    """The request is not let in; `status` says whether it is at fault."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True, slots=True)
class WebhookRules:
    """The requests that one endpoint accepts. How long a body may take is the server's to bound.

    `max_body` in bytes, inflated. `discard` bytes more are read and thrown away of a body that is too large, so that
    its sender hears 413 and not a broken pipe. `receipt`: prefixes of names; see receipts.Receipts.
    """

    max_body: int
    refuse_rejects: bool
    forbids: Callable[[Mapping[str, str]], bool]
    discard: int = 16 * 1024 * 1024
    attendance: EndpointCoverageRules = field(default_factory=EndpointCoverageRules)
    receipt: Sequence[str] = ()


class WebhookSource:
    """protocols.Source for requests to one path; also the ASGI endpoint that receives them."""

    def __init__(
        self,
        origin: Origin,
        rules: WebhookRules,
        credentials: Credentials,
        format_: Format,
        intake: SourceIntake,
        bodies: UnfinishedBodies,
        thread: DecodingThread,
        coverage: Coverage,
        metrics: Metrics,
        clock: Callable[[], datetime],
        seconds: Callable[[], float] = elapsed,
        upkeep: KeyRefresher | None = None,
        tally: Callable[[str, int], Awaitable[None]] | None = None,
    ) -> None:
        self._origin = origin
        self._rules = rules
        self._credentials = credentials
        self._upkeep = upkeep
        self._decode = BodyDecoder(origin, format_, credentials, rules.receipt).decode
        self._intake = intake
        self._bodies = bodies
        self._thread = thread
        self._most_bytes = min(rules.max_body, bodies.max_bytes)
        self._little = min(self._most_bytes, AT_ONCE_BYTES)
        self._attendance = EndpointCoverage(coverage, origin, rules.attendance, seconds)
        self._metrics = metrics
        self._clock = clock
        self._requests = RequestLog(credentials)
        self.recent_requests = self._requests.recent
        self._note = self._requests.note
        self._auth_failures = AuthFailureLog(origin.source, tally)
        self._paused = False
        metrics.declare_webhook(origin.source)
        self._unauthorized = unauthorized(credentials.challenge)
        self._rejected = ANSWERS[422 if rules.refuse_rejects else 204]
        self._count_answer = {int(code): metrics.responses.labels(origin.source, code).inc for code in WEBHOOK_CODES}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, unless its sender goes away in the middle of the body."""
        try:
            answer = await self._answer_to(scope, receive)
        except Disconnected:
            return
        self._count_answer[answer.code]()
        self._note(scope, answer.code)
        await send(answer.start)
        await send(answer.body)

    async def run(self) -> None:
        """Record, until cancelled, that this endpoint is listening; and keep its credentials up."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._attendance.run())
            tasks.create_task(self._auth_failures.run())
            if self._upkeep is not None:
                tasks.create_task(self._upkeep.run())

    async def pause(self) -> None:
        """Answer 503 from now on, and record that nothing is taken any more."""
        self._paused = True
        await self._attendance.stop()
        await self._auth_failures.stop()

    def last_seen(self) -> LastSeen:
        """See protocols.Source."""
        return self._intake.last_seen()

    def condition(self) -> Condition:
        """Return that it is up until it is paused, unless nobody can be let in: whether requests come is the
        sender's affair.
        """
        trouble = None if self._upkeep is None else self._upkeep.trouble()
        return Condition(up=not self._paused and trouble is None, reason=trouble)

    async def _answer_to(self, scope: Scope, receive: Receive) -> Answer:
        """Read, verify, decode, commit; the answer that follows from what became of the records."""
        headers = _headers_of(scope["headers"])
        if (refused := self._refused(scope["method"], headers)) is not None:
            return ANSWERS[refused]
        try:
            if not self._credentials.needs_body:
                self._admit(headers, scope["query_string"], b"")
            records, committed = await self._receive(headers, scope["query_string"], receive)
            outcomes = scope["outcomes"] = await self._intake.settle(records)
            return self._answer(outcomes, committed)
        except TurnedAway as turned_away:
            return self._unauthorized if turned_away.status == 401 else ANSWERS[turned_away.status]
        except NoRoom:
            return ANSWERS[503]
        except TooLarge:
            return ANSWERS[413]
        except UnknownEncoding:
            return ANSWERS[415]
        except Disconnected:
            raise
        except Exception:  # a fault of ours is ours to mend: the sender is told to send again, never 4xx or 500
            log.exception("webhook_failed", source=self._origin.source)
            return ANSWERS[503]

    def _refused(self, method: str, headers: Mapping[str, str]) -> int | None:
        """Return the status of a request that needs no look at its body."""
        if method not in {"POST", "PUT"}:
            return 405
        if self._rules.forbids(headers):
            return 403
        return 503 if self._paused else None

    def _admit(self, headers: Mapping[str, str], query: bytes, body: bytes) -> None:
        """Raise TurnedAway unless the request is let in; where it is not certainly at fault, it should come again."""
        admitted = self._credentials.admits(headers, query, body)
        if admitted:
            return
        if admitted is None:
            raise TurnedAway(503)
        self._metrics.auth_failures.labels(self._origin.source).inc()
        self._auth_failures.note()
        raise TurnedAway(401)

    async def _receive(self, headers: Mapping[str, str], query: bytes, receive: Receive) -> Decoded:
        """Read the body and decode it; what is more than a little counts among the unfinished until it is decoded.

        The body is let go of with this: what waits for its commit is the records. Raises TooLarge, NoRoom, TurnedAway,
        Disconnected, UnknownEncoding.
        """
        message = await receive()
        body = message.get("body", b"")
        if message["type"] == "http.request" and not message.get("more_body", False) and len(body) <= self._little:
            received_at = self._arrived(headers, query, body)
            try:
                return self._decode(headers, body, received_at, self._little)
            except InflatesTooFar:
                return await self._decode_aside(headers, body, received_at)
        with self._bodies.keep() as unfinished:
            body = await self._read(receive, message, unfinished)
            received_at = self._arrived(headers, query, body)
            if len(body) <= self._little:
                with suppress(InflatesTooFar):
                    return self._decode(headers, body, received_at, self._little)
            return await self._decode_aside(headers, body, received_at)

    def _arrived(self, headers: Mapping[str, str], query: bytes, body: bytes) -> datetime:
        """Note that a whole body has come; when. Raises TurnedAway where it has no good signature."""
        received_at = self._clock()
        self._intake.heard(received_at)
        if self._credentials.needs_body:
            self._admit(headers, query, body)
        return received_at

    async def _decode_aside(self, headers: Mapping[str, str], body: bytes, received_at: datetime) -> Decoded:
        """Decode a body that is large, or will be."""
        return await self._thread.run(partial(self._decode, headers, body, received_at, self._rules.max_body))

    def _answer(self, outcomes: Sequence[Outcome], committed: Answer) -> Answer:
        """Return the answer to a batch, which is that of its worst element; `committed` where all of it is well."""
        if Outcome.DEFERRED in outcomes:
            return ANSWERS[503]
        if committed is not self._rejected and Outcome.REJECTED in outcomes:
            return self._rejected
        return committed

    async def _read(self, receive: Receive, message: Message, unfinished: UnfinishedBody) -> bytes:
        """Read what follows the first message, by counting bytes whatever Content-Length says; the whole body."""
        chunks: list[bytes] = []
        size = 0
        while True:
            if message["type"] == "http.disconnect":
                raise Disconnected
            chunk = message.get("body", b"")
            size += len(chunk)
            if size <= self._most_bytes:
                chunks.append(chunk)
                self._bodies.resize(unfinished, size)
            else:
                chunks.clear()
                self._bodies.resize(unfinished, 0)
            if not message.get("more_body", False) or size > self._most_bytes + self._rules.discard:
                break
            message = await receive()
        if size > self._most_bytes:
            raise TooLarge(f"a body of more than {self._most_bytes} bytes")
        return b"".join(chunks)


def _headers_of(lines: Collection[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers by name. Different values of one name are one, joined by commas (RFC 9110 §5.3).

    So nobody is let in by one of several keys, and no value hides behind another.
    """
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in lines}
    if len(headers) < len(lines):
        values: dict[str, dict[str, None]] = {}
        for name, value in lines:
            values.setdefault(name.decode("latin-1"), {})[value.decode("latin-1")] = None
        return {name: ", ".join(several) for name, several in values.items()}
    return headers
