"""Handler `http`: posts events to a receiver, signed as Standard Webhooks, as CloudEvents or plain JSON."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version

import aiohttp
from yarl import URL

from app.handlers.http.answers import MAY_ASK_TO_WAIT, Meaning, cause_of, meaning_of, table_of
from app.handlers.http.bodies import BATCHED, SINGLE, Content
from app.handlers.http.connector import make_connector
from app.handlers.http.requests import proxy_of, signature
from app.handlers.http.settings import HttpSettings
from app.handlers.http.tls import ClientTls
from ingest.deliveries import Answer
from ingest.delivery import ANSWER_CHARACTERS, DeliveryFailed, FailureCause, Verdict
from ingest.event import Event
from ingest.retry_after import parse_retry_after
from ingest.settings.secret import MASK

_ANSWER_BYTES = 4096
_ANSWER_SECONDS = 1.0  # for what of it is not there yet: it decides nothing
_KEEP_ALIVE_SECONDS = 4.0  # below the 5 s of Node and uvicorn, which would close a connection as we send on it
_SECRET_CHARACTERS = 8  # what is shorter is none, and would be found everywhere
_AGENT = f"headrace/{version('headrace')}"


class HttpHandler:
    """protocols.Handler that posts to `settings.url`. `clock` is the time of day, in seconds since 1970."""

    def __init__(self, settings: HttpSettings, tls: ClientTls, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._tls = tls
        self._clock = clock
        self._url = URL(settings.url, encoded=settings.url.isascii())
        self._proxy = proxy_of(self._url)
        self._table = table_of(settings.dead_on, settings.pause_on)
        self._write = (BATCHED if settings.batch.events > 1 else SINGLE)[settings.format]
        self._made: aiohttp.ClientSession | None = None

    async def deliver(self, events: Sequence[Event]) -> None:
        """See protocols.Handler. Raises DeliveryFailed."""
        await self._post(events)

    async def answer(self, events: Sequence[Event]) -> Answer:
        """See protocols.Answering."""
        status, answer = await self._post(events)
        return Answer(status, self._text(answer)[:ANSWER_CHARACTERS])

    async def _post(self, events: Sequence[Event]) -> tuple[int, bytes]:
        """Return the status of a delivery, and how the answer begins. Raises DeliveryFailed."""
        content = self._write(events)
        headers = self._headers(content)
        try:
            response = await self._session().post(
                self._url,
                data=content.body,
                headers=headers,
                ssl=self._tls.context(),
                proxy=self._proxy,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError) as error:
            raise DeliveryFailed(*cause_of(error)) from None
        meaning = meaning_of(response.status, self._table)
        answer = await _beginning(response, delivered=meaning is None)
        if meaning is not None:
            raise self._failure(response, meaning, answer)
        return response.status, answer

    async def close(self) -> None:
        """See protocols.Handler."""
        if self._made is not None:
            await self._made.close()
            self._made = None

    def _session(self) -> aiohttp.ClientSession:
        """Return the pool, made where the event loop runs. `concurrency` bounds it: a delivery has one connection."""
        if self._made is None:
            self._made = aiohttp.ClientSession(
                connector=make_connector(keep_alive_seconds=_KEEP_ALIVE_SECONDS),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # the dispatcher bounds a delivery
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Accept-Encoding", "Content-Type"),
                auto_decompress=False,
            )
        return self._made

    def _headers(self, content: Content) -> dict[str, str]:
        timestamp = str(int(self._clock()))
        headers = {name: value.value() for name, value in self._settings.headers.items()}
        headers |= {**content.headers, "User-Agent": _AGENT, "webhook-id": content.id, "webhook-timestamp": timestamp}
        if self._settings.secrets:
            signed = signature([each.value() for each in self._settings.secrets], content.id, timestamp, content.body)
            if not signed:  # a receiver would take an unsigned request for an event that is at fault
                text = "none of the secrets is a signing key now"
                raise DeliveryFailed(FailureCause.HANDLER_ERROR, Verdict.RETRY, text)
            headers["webhook-signature"] = signed
        authorization = self._settings.auth.authorization()
        if authorization is not None:
            headers["Authorization"] = authorization
        return headers

    def _failure(self, response: aiohttp.ClientResponse, meaning: Meaning, answer: bytes) -> DeliveryFailed:
        status = response.status
        wait = None
        if status in MAY_ASK_TO_WAIT:
            now = datetime.fromtimestamp(self._clock(), UTC)
            wait = parse_retry_after(response.headers.get("Retry-After"), now)
        text = self._text(answer)
        return DeliveryFailed(*meaning, f"answered {status}", status=status, retry_after=wait, answer=text)

    def _text(self, answer: bytes) -> str:
        """Return an answer without what of our request it repeats that nobody else should see."""
        text = answer.decode("utf-8", "replace")
        for secret in self._sent_secrets():
            if len(secret) >= _SECRET_CHARACTERS:
                text = text.replace(secret, MASK)
        return text

    def _sent_secrets(self) -> Iterator[str]:
        for value in self._settings.headers.values():
            yield value.value()
        authorization = self._settings.auth.authorization()
        if authorization is not None:
            yield authorization.partition(" ")[2]


async def _beginning(response: aiohttp.ClientResponse, *, delivered: bool) -> bytes:
    """Return at most 4 KiB of an answer. Where there is more, or it does not come, its connection is closed."""
    answer = bytearray()
    if response.content.at_eof():
        response.release()
        return b""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            while len(answer) < _ANSWER_BYTES and (part := await response.content.read(_ANSWER_BYTES - len(answer))):
                answer += part
    except (aiohttp.ClientError, OSError):  # TimeoutError is one. The status has been said, and it alone counts
        pass
    except asyncio.CancelledError:
        if not delivered:
            raise
    finally:
        response.release()
    return bytes(answer)
