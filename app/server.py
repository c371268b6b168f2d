"""The HTTP server: uvicorn without its own signal handling, and with a bound on how long a request's head may take."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import partial
from typing import Any

import uvicorn

from app.certificate import Certificate
from app.sender_bounds import Bounds
from app.settings import ServerSettings
from app.uvicorn_seams import GuardedProtocol, Server

Asgi = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]

# What uvicorn puts into every answer: the API's, the webhooks', its own and the guarded protocol's. Device data is
# hostile: should any of it ever become markup, it still runs nothing, loads nothing and is in nobody's frame.
_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
]
_GRACEFUL_SECONDS = 10


class IngestRouter:
    """Gives a webhook's path, with or without a slash behind it, to its endpoint, and all else to the API."""

    def __init__(self, endpoints: Mapping[str, Asgi], api: Asgi) -> None:
        self._endpoints = {**endpoints, **{f"{path}/": endpoint for path, endpoint in endpoints.items()}}
        self._api = api

    def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> Awaitable[None]:
        """Route one request."""
        endpoint = self._endpoints.get(scope["path"], self._api) if scope["type"] == "http" else self._api
        return endpoint(scope, receive, send)


def make_server(app: Asgi, settings: ServerSettings, bounds: Bounds | None = None) -> Server:
    """Make a server for `app`; it listens on the socket that its `serve` is given.

    `bounds`: how long senders may take. Raises OSError for a bad certificate.
    """
    bounds = bounds or Bounds()
    files = settings.tls_cert, settings.tls_key
    certificate = Certificate(files[0], files[1]) if files[0] and files[1] else None
    return Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            interface="asgi3",
            http=partial(GuardedProtocol, bounds=bounds),  # type: ignore[arg-type]  # called as a class would be
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            headers=_HEADERS,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=[str(network) for network in settings.trusted_proxies],
            timeout_keep_alive=bounds.idle_seconds,
            timeout_graceful_shutdown=_GRACEFUL_SECONDS,
            ssl_context_factory=None if certificate is None else lambda *_: certificate.context,
        ),
        certificate,
    )
