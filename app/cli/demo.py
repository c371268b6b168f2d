"""`serve --demo`: a source and a file of its own, what feeds it, and handlers where none are configured."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import timedelta

from app.cli.store import DEMO_URL
from app.handlers.python import PythonSettings
from app.settings import PubsubSettings, RetrySettings, Secret, Settings, SseSettings, WebhookSettings, is_loopback
from app.simulator.device import Published
from app.simulator.fleet import Fleet
from ingest.errors import ConfigurationError
from ingest.sources.webhook.auth import HeaderAuth

SOURCE = "demo"
_KEY_HEADER = "X-Demo-Key"
# Short, so that a newcomer sees events retried and given up within ten seconds.
_RETRY = RetrySettings(base=timedelta(milliseconds=200), cap=timedelta(seconds=1), attempts=3)
_GRACE = timedelta(seconds=5)  # so that a newcomer sees soon what each way brought
_IDLE = timedelta(seconds=3)  # three keep-alives of the demo's stream, so that a stall is a gap soon


def demo_settings(settings: Settings, stream_url: str, subscription: str | None = None) -> Settings:
    """The settings with the demo's file and source in the place of those that are configured.

    What `serve` keeps must not hold events of a simulated fleet, and no real one may be taken into the demo's file. The
    source has the stream and, where there is one, the subscription; beyond loopback its webhook wants a key.

    Raises ConfigurationError where the fleet could not reach the server.
    """
    if not settings.server.port:
        raise ConfigurationError("server.port: expected a port above 0 with --demo, so that the fleet finds the server")
    if settings.server.tls_cert:
        raise ConfigurationError(
            "server.tls_cert: leave it out with --demo, the fleet speaks plain HTTP to this machine"
        )
    source = Settings.model_validate({"sources": {SOURCE: {}}}).sources[SOURCE]
    changes = {
        "loss_grace": _GRACE,
        "modes": ("webhook", "sse", "pubsub") if subscription else ("webhook", "sse"),
        "webhook": _webhook(source.webhook, settings),
        "sse": SseSettings(url=stream_url, token=Secret("demo"), idle_timeout=_IDLE),
        "pubsub": PubsubSettings(subscription=subscription),
    }
    store = settings.store.model_copy(update={"url": Secret(DEMO_URL, shown=DEMO_URL)})
    sources = {SOURCE: source.model_copy(update=changes)}
    return settings.model_copy(
        update={"store": store, "sources": sources, "handlers": settings.handlers or demo_handlers()}
    )


def demo_handlers() -> dict[str, PythonSettings]:
    """Two handlers: one takes everything, one fails as real ones do."""
    return {
        label: PythonSettings(call=f"app.simulator.demo:{function}", retry=_RETRY)
        for label, function in (("steady", "on_event"), ("shaky", "on_event_now_and_then"))
    }


def demo_fleet(settings: Settings, address: str, elsewhere: Sequence[Callable[[Published], None]] = ()) -> Fleet:
    """Fifty devices that post to the demo's source at a server's URL, and publish elsewhere as well."""
    webhook = settings.sources[SOURCE].webhook
    headers = {} if webhook.auth.type == "none" else {webhook.auth.name: webhook.auth.secrets[0].value()}
    return Fleet(f"{address}{webhook.path}", headers, elsewhere=elsewhere)


def _webhook(webhook: WebhookSettings, settings: Settings) -> WebhookSettings:
    if is_loopback(settings.server.host):
        return webhook
    key = HeaderAuth(type="header", name=_KEY_HEADER, secrets=(Secret(secrets.token_urlsafe(32)),))
    return webhook.model_copy(update={"auth": key})
