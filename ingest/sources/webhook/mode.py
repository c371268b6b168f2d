"""The mode `webhook`, for the rest of Headrace."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ingest.errors import ConfigurationError
from ingest.event import Origin
from ingest.sources.mode import Fault, SourceMode, SourceParts, Sources
from ingest.sources.webhook.settings import WebhookSettings

if TYPE_CHECKING:
    from ingest.formats import AnyFormat
    from ingest.sources.webhook.source import WebhookSource


class Webhooks:
    """The webhooks of one process: what they hold of unfinished bodies together is bounded by the inbox's bytes."""

    def __init__(self, parts: SourceParts) -> None:
        from ingest.decoding import DecodingThread
        from ingest.sources.webhook.unfinished import UnfinishedBodies

        self._parts = parts
        self._bodies = UnfinishedBodies(parts.inbox_bytes)
        self._thread = DecodingThread()

    def __call__(self, origin: Origin, settings: WebhookSettings, format_: AnyFormat) -> WebhookSource:
        """Make the webhook of a label."""
        from ingest.sources.webhook.source import WebhookRules, WebhookSource

        parts = self._parts
        credentials, refresher = settings.auth.credentials()
        return WebhookSource(
            origin=origin,
            rules=WebhookRules(
                max_body=settings.max_body,
                refuse_rejects=settings.on_reject == "refuse",
                forbids=parts.forbids,
                receipt=settings.receipt,
            ),
            credentials=credentials,
            format_=format_,
            intake=parts.intake(origin),
            bodies=self._bodies,
            thread=self._thread,
            coverage=parts.coverage,
            metrics=parts.metrics,
            clock=parts.clock,
            upkeep=refresher,
            tally=parts.add_auth_failures,
        )


def _faults(sources: Sources) -> Iterator[Fault]:
    """Find paths that belong to another source."""
    owners: dict[str, str] = {}
    for label, source in sources.items():
        owner = owners.setdefault(source.table("webhook").path, label)
        if owner != label and "webhook" in source.modes:
            yield ("sources", label, "webhook", "path"), f"expected a path that sources.{owner} does not have"


def _unguarded(settings: WebhookSettings) -> tuple[str, str] | None:
    return ("auth", 'expected another type than "none"') if settings.auth.type == "none" else None


def _probe(key: str, settings: WebhookSettings) -> str | None:
    """Fetch the keys that Google signs with, where the senders' tokens are judged by them."""
    if settings.auth.type != "google-oidc":
        return None
    from ingest.sources.webhook.signing_keys import SigningKeys

    keys = SigningKeys()
    fault = asyncio.run(keys.probe())
    if fault is not None:
        raise ConfigurationError(f"{key}.auth: cannot fetch the keys that Google signs with from {keys.url}: {fault}")
    return f"{key}.auth: the keys that Google signs with can be fetched"


WEBHOOK = SourceMode(
    name="webhook",
    settings=WebhookSettings,
    factory=Webhooks,
    defaults=lambda label, _product: {"path": f"/ingest/{label}"},
    faults=_faults,
    unguarded=_unguarded,
    path=lambda settings: settings.path,
    probe=_probe,
)
