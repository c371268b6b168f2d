"""`serve --demo`: what the fleet posts to, streams and publishes through; handlers where none are configured."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import timedelta
from urllib.parse import urlencode

from app.handlers.python import PythonSettings
from app.settings import (
    AnyAuth,
    PubsubSettings,
    RetrySettings,
    Secret,
    Settings,
    SourceSettings,
    SseSettings,
)
from app.simulator.device import Published
from app.simulator.fleet import Fleet
from app.simulator.stream import ProductStream
from ingest.errors import ConfigurationError

_SATISFIABLE = ("none", "header", "bearer", "query", "basic")
# Short, so that a newcomer sees events retried and given up within ten seconds.
_RETRY = RetrySettings(base=timedelta(milliseconds=200), cap=timedelta(seconds=1), attempts=3)
_IDLE = timedelta(seconds=3)  # three keep-alives of the demo's stream, so that a stall is a gap soon


def with_demo_handlers(settings: Settings) -> Settings:
    """The settings with two handlers that only the demo has, where none are configured."""
    if settings.handlers:
        return settings
    handlers = {
        label: PythonSettings(call=f"app.simulator.demo:{function}", retry=_RETRY)
        for label, function in (("steady", "on_event"), ("shaky", "on_event_now_and_then"))
    }
    return settings.model_copy(update={"handlers": handlers})


def with_demo_stream(settings: Settings, stream: ProductStream) -> Settings:
    """The settings whose demo source takes the same events by this stream too, unless it has one of its own."""
    label = demo_source(settings)
    source = settings.sources[label]
    if "sse" in source.modes:
        return settings
    sse = SseSettings(url=stream.url, token=Secret("demo"), idle_timeout=_IDLE)
    both = source.model_copy(update={"modes": (*source.modes, "sse"), "sse": sse})
    return settings.model_copy(update={"sources": {**settings.sources, label: both}})


def with_demo_subscription(settings: Settings, subscription: str) -> Settings:
    """The settings whose demo source takes the same events from this subscription too, unless it has one of its own."""
    label = demo_source(settings)
    source = settings.sources[label]
    if "pubsub" in source.modes:
        return settings
    pubsub = PubsubSettings(subscription=subscription)
    all_ways = source.model_copy(update={"modes": (*source.modes, "pubsub"), "pubsub": pubsub})
    return settings.model_copy(update={"sources": {**settings.sources, label: all_ways}})


def demo_fleet(settings: Settings, address: str, elsewhere: Sequence[Callable[[Published], None]] = ()) -> Fleet:
    """Fifty devices that post to the demo's source at a server's URL, and publish elsewhere as well.

    Raises ConfigurationError.
    """
    if not settings.server.port:
        raise ConfigurationError("server.port: expected a port above 0 with --demo, so that the fleet finds the server")
    if settings.server.tls_cert:
        raise ConfigurationError(
            "server.tls_cert: leave it out with --demo, the fleet speaks plain HTTP to this machine"
        )
    source = settings.sources[demo_source(settings)]
    query, headers = credentials_for(source.webhook.auth)
    url = f"{address}{source.webhook.path}{query}"
    return Fleet(url, headers, elsewhere=elsewhere)


def demo_source(settings: Settings) -> str:
    """The source that the fleet feeds: the first whose webhook it can satisfy. Raises ConfigurationError."""
    for label, source in settings.sources.items():
        if _is_satisfiable(source):
            return label
    raise ConfigurationError(
        "sources: expected one with mode webhook, format particle and webhook.auth.type none, header, bearer, query or "
        "basic: the fleet of --demo can satisfy no other"
    )


def demo_stream(settings: Settings) -> ProductStream:
    """The event stream of that source's product, on a free port of this machine. Raises ConfigurationError."""
    return ProductStream(settings.sources[demo_source(settings)].product)


def credentials_for(auth: AnyAuth) -> tuple[str, dict[str, str]]:
    """The query string (with its question mark, or empty) and the headers that satisfy `auth`."""
    if auth.type == "header":
        return "", {auth.name: auth.secrets[0].value()}
    if auth.type == "bearer":
        return "", {"authorization": f"Bearer {auth.secrets[0].value()}"}
    if auth.type == "query":
        return f"?{urlencode({auth.name: auth.secrets[0].value()})}", {}
    if auth.type == "basic":
        return "", {"authorization": f"Basic {base64.b64encode(auth.secrets[0].value().encode()).decode()}"}
    return "", {}


def _is_satisfiable(source: SourceSettings) -> bool:
    return "webhook" in source.modes and source.format == "particle" and source.webhook.auth.type in _SATISFIABLE
