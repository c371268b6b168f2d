"""The HTTP server: uvicorn without its own signal handling, and with a bound on how long a request's head may take."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from typing import Any

import uvicorn

from app.certificate import Certificate
from app.exchange import PlainProtocol
from app.heads import KnownHeads
from app.settings import ServerSettings
from ingest.sources.webhook import WebhookSource

Asgi = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]

_PATIENCE_SECONDS = 15.0
# Longer than the idle time of the usual load balancers (60 s), so that it is they who close a connection.
_KEEP_ALIVE_SECONDS = 75
_GRACEFUL_SECONDS = 10
_TICKS_PER_SECOND = 10


class Front:
    """Sends a webhook's path straight to its endpoint, with or without a slash behind it; all else to the API."""

    def __init__(self, endpoints: Mapping[str, WebhookSource], api: Asgi) -> None:
        self._endpoints = {**endpoints, **{f"{path}/": endpoint for path, endpoint in endpoints.items()}}
        self.plain_endpoints = {path.encode(): endpoint for path, endpoint in self._endpoints.items()}
        self.known_heads = KnownHeads()
        self._api = api

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Route one request."""
        endpoint = self._endpoints.get(scope["path"]) if scope["type"] == "http" else None
        await (endpoint or self._api)(scope, receive, send)


class Server(uvicorn.Server):
    """uvicorn whose stopping is decided by whoever set `should_exit`: readyz has to fail before it refuses."""

    def __init__(self, config: uvicorn.Config, certificate: Certificate | None) -> None:
        super().__init__(config)
        self._certificate = certificate

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; once a second look for a renewed certificate."""
        if self._certificate is not None and counter % _TICKS_PER_SECOND == 0:
            self._certificate.renew()
        return await super().on_tick(counter)


class PatientProtocol(PlainProtocol):
    """Closes a connection on which a request does not get finished: a byte a minute, or none at all.

    One timer a connection and none a request: it looks every `_PATIENCE_SECONDS`, and what was unfinished at one look
    and still is at the next has had its time. A connection on which nothing new is asked for `_KEEP_ALIVE_SECONDS` is
    closed in good order.
    """

    _timer: asyncio.TimerHandle | None = None
    _unfinished: object = None
    _last_cycle: object = None
    _idle_looks = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to look after the connection."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(_PATIENCE_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        receiving = self._receiving()
        if receiving is not None and receiving is self._unfinished:
            self.transport.abort()
            return
        self._unfinished = receiving
        self._idle_looks = self._idle_looks + 1 if receiving is None and self.cycle is self._last_cycle else 0
        self._last_cycle = self.cycle
        if self._idle_looks * _PATIENCE_SECONDS >= _KEEP_ALIVE_SECONDS and self._is_idle():
            self.transport.close()
            return
        self._timer = self.loop.call_later(_PATIENCE_SECONDS, self._look)

    def _receiving(self) -> object:
        """What of a request is being waited for: a body, a head; None where nothing is due."""
        if self.cycle is not None and not self.cycle.response_complete:
            return self.cycle if self.cycle.more_body else None
        return None if self._is_idle() else (self.cycle or self)

    def _is_idle(self) -> bool:
        """Whether an answer was given, and nothing of a further request has come."""
        return self.cycle is not None and self.cycle.response_complete and not self.unfinished_bytes


def make_server(app: Asgi, settings: ServerSettings) -> Server:
    """A server for `app`; it listens on the socket that its `serve` is given. Raises OSError for a bad certificate."""
    files = settings.tls_cert, settings.tls_key
    certificate = Certificate(files[0], files[1]) if files[0] and files[1] else None
    return Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http=PatientProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=[str(network) for network in settings.trusted_proxies],
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_GRACEFUL_SECONDS,
            ssl_context_factory=None if certificate is None else lambda *_: certificate.context,
        ),
        certificate,
    )
