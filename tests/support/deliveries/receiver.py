"""The oracle as receiver, `python -m tests.support.deliveries.receiver PLAN`: it writes down, then it answers.

It prints its port, ends on SIGTERM, and leaves `deliveries` (see journal.py) in the plan's folder, and its certificate.
It knows the product only by what comes in; signatures are verified by the library of Standard Webhooks.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from uuid import UUID

import msgspec
import uvloop
from standardwebhooks import Webhook, WebhookVerificationError

from tests.support.deliveries.answers import STATUS, Answer, Weather
from tests.support.deliveries.journal import Connected, Delivered, Flooded, Journal, Refused, now
from tests.support.raw_receiver import Flood, dribbling, hanging, resetting, saying, status
from tests.support.tls import make_certificate, server_context

NAME = "deliveries"
CERTIFICATE = "certificate.pem"
SECRET = "whsec_b3JhY2xlLW9yYWNsZS1vcmFjbGU="
WAIT_SECONDS = 1


class Plan(msgspec.Struct, kw_only=True):
    """Where to write, whether to speak TLS, and how to answer."""

    folder: str
    weather: Weather
    tls: bool = False


class Receiver:
    """Answers requests with an event each as its weather says."""

    def __init__(self, plan: Plan, journal: Journal) -> None:
        self._weather = plan.weather
        self._storms = list(plan.weather.storms)
        self._journal = journal
        self._verify = Webhook(SECRET).verify
        self._attempts: Counter[UUID] = Counter()
        self._deliveries = self._connections = self._handshakes = 0
        self._storm: Answer | None = None
        self._storm_ends = 0.0

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take requests from one connection until it ends."""
        self._connections += 1
        number = self._connections
        self._journal.add(Connected(number, now()))
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lines = [line.split(":", 1) for line in head.split("\r\n")[1:] if line]
                headers = {name.lower(): value.strip() for name, value in lines}
                body = await reader.readexactly(int(headers["content-length"]))
                answer = self._note(number, head, headers, body)
                if not await self._say(answer, number, reader, writer):
                    break
        writer.close()

    def choose_handshake(self, sslobject: ssl.SSLObject | ssl.SSLSocket, untrusted: ssl.SSLContext) -> int | None:
        """Let a handshake go on, with a certificate that nobody signed where there is to be one, or refuse it."""
        self._handshakes += 1
        fault = self._weather.handshake(self._handshakes)
        if self._stormy() is Answer.TLS_ALERT:
            fault = Answer.TLS_ALERT
        if fault is not None:
            self._journal.add(Refused(fault, now()))
        if fault is Answer.TLS_UNTRUSTED:
            sslobject.context = untrusted
        return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR if fault is Answer.TLS_ALERT else None

    def _note(self, connection: int, head: str, headers: Mapping[str, str], body: bytes) -> Answer:
        fault = ""
        try:
            self._verify(body, dict(headers), json_parse=False)
            event = UUID(headers["webhook-id"])
            if json.loads(body)["id"] != str(event):
                fault = "webhook-id is of another event"
        except (WebhookVerificationError, KeyError, ValueError) as error:
            event, fault = UUID(int=0), repr(error)
        if not head.startswith("POST /events "):
            fault = f"another address: {head.partition(' HTTP')[0]}"
        self._deliveries += 1
        self._attempts[event] += 1
        attempt = self._attempts[event]
        storm = self._stormy()
        answer = storm or self._weather.answer(event, attempt)
        if answer is Answer.TLS_ALERT:  # of a storm, in a connection that was made before it
            answer = Answer.RESET
        self._journal.add(Delivered(event, attempt, now(), connection, answer, fault))
        return answer

    def _stormy(self) -> Answer | None:
        """Return what a storm that lasts, or begins now, answers."""
        if self._storms and self._deliveries >= self._storms[0].after:
            storm = self._storms.pop(0)
            self._storm, self._storm_ends = storm.answer, now() + storm.seconds
        if self._storm is not None and now() > self._storm_ends:
            self._storm = None
        return self._storm

    async def _say(
        self, answer: Answer, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer; return whether the connection goes on."""
        code = STATUS.get(answer, 0)
        match answer:
            case Answer.HANG:
                return await hanging(reader, writer)
            case Answer.RESET:
                return await resetting(reader, writer)
            case Answer.SLOW_BODY | Answer.SLOW_ERROR:
                return await dribbling(code)(reader, writer)
            case Answer.BIG_BODY | Answer.BIG_ERROR:
                return await self._flood(Flood(code), connection, reader, writer)
            case Answer.THROTTLED_SECONDS:
                return await status(code, f"Retry-After: {WAIT_SECONDS}")(reader, writer)
            case Answer.THROTTLED_DATE:
                until = datetime.now(UTC) + timedelta(seconds=WAIT_SECONDS)
                return await status(code, f"Retry-After: {format_datetime(until, usegmt=True)}")(reader, writer)
            case Answer.REDIRECT:
                return await status(code, "Location: /elsewhere")(reader, writer)
            case Answer.OK:
                return await _OK(reader, writer)
            case _:
                return await status(code, body=b"no")(reader, writer)

    async def _flood(
        self, flood: Flood, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        try:
            return await flood(reader, writer)
        finally:
            self._journal.add(Flooded(connection, flood.written))


_OK = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


async def serve(plan: Plan) -> None:
    """Receive until the process is ended."""
    folder = Path(plan.folder)
    receiver = Receiver(plan, Journal(folder / NAME))
    context = _tls(folder, receiver) if plan.tls else None
    server = await asyncio.start_server(receiver.converse, "127.0.0.1", 0, ssl=context, limit=1 << 20, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - how it tells its port
    await server.serve_forever()


def _tls(folder: Path, receiver: Receiver) -> ssl.SSLContext:
    """Serve with a certificate in the folder, and in some handshakes with another one."""
    good = server_context(*make_certificate(folder))
    (folder / "untrusted").mkdir()
    bad = server_context(*make_certificate(folder / "untrusted"))
    good.sni_callback = lambda sslobject, _name, _context: receiver.choose_handshake(sslobject, bad)
    return good


if __name__ == "__main__":
    uvloop.run(serve(msgspec.json.decode(sys.argv[1], type=Plan)))
