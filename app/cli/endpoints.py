"""What the sources would open, tried: with the configured credentials, for seconds, and without taking anything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from app.settings import Settings
from app.settings.sources import PubsubSettings, SseSettings
from ingest.errors import ConfigurationError
from ingest.event import Mode
from ingest.sources.webhook.signing_keys import SigningKeys


def try_sources(settings: Settings) -> Iterator[str]:
    """A line for each endpoint as it was reached. Raises ConfigurationError, naming the key, for one that was not."""
    for label, source in settings.sources.items():
        if Mode.WEBHOOK in source.modes and source.webhook.auth.type == "google-oidc":
            yield _try_signing_keys(f"sources.{label}.webhook.auth")
        if Mode.SSE in source.modes:
            yield _try_stream(f"sources.{label}.sse", source.sse)
        if Mode.PUBSUB in source.modes:
            yield _try_subscription(f"sources.{label}.pubsub.subscription", source.pubsub)


def _try_signing_keys(key: str) -> str:
    keys = SigningKeys()
    fault = asyncio.run(keys.probe())
    if fault is not None:
        raise ConfigurationError(f"{key}: cannot fetch the keys that Google signs with from {keys.url}: {fault}")
    return f"{key}: the keys that Google signs with can be fetched"


def _try_stream(key: str, sse: SseSettings) -> str:
    from ingest.sources.sse.probe import probe

    refused = asyncio.run(probe(sse.url, None if sse.token is None else sse.token.value()))
    if refused is not None:
        raise ConfigurationError(f"{key}.{'token' if refused.of_token else 'url'}: {refused.reason}")
    return f"{key}.url: answers with an event stream"


def _try_subscription(key: str, pubsub: PubsubSettings) -> str:
    from ingest.sources.pubsub.probe import probe  # Google's client takes a second to import: only where it is used

    fault = probe(pubsub.subscription or "")  # settings.rules: it is there
    if fault is not None:
        raise ConfigurationError(f"{key}: {fault}")
    return f"{key}: can be pulled"
