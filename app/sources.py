"""From the settings of a source to the source that runs: adding a delivery mode is one file and one line here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from app.settings import AuthSettings, SourceSettings
from ingest.decoding import DecodingThread
from ingest.event import Mode, Origin
from ingest.formats.generic import Fields, GenericFormat
from ingest.formats.particle import ParticleFormat
from ingest.inbox import Inbox
from ingest.intake import SourceIntake
from ingest.metrics import Metrics
from ingest.protocols import Coverage, Source
from ingest.reconnect import OpenBudget
from ingest.sources.sse.source import SseRules, SseSource
from ingest.sources.webhook import credentials
from ingest.sources.webhook.signing_keys import SigningKeys
from ingest.sources.webhook.source import WebhookRules, WebhookSource
from ingest.sources.webhook.unfinished import UnfinishedBodies


@dataclass(frozen=True, slots=True)
class SourceParts:
    """What every source is made with."""

    inbox: Inbox
    metrics: Metrics
    coverage: Coverage
    clock: Callable[[], datetime]
    forbids: Callable[[Mapping[str, str]], bool]  # requests of foreign web pages, on loopback
    budget: OpenBudget  # of opens, for all streams of this process
    inbox_bytes: int
    bodies: UnfinishedBodies  # of all webhooks
    thread: DecodingThread


def make_webhook(label: str, settings: SourceSettings, parts: SourceParts) -> WebhookSource:
    """The webhook source of a label."""
    origin = Origin(settings.product, label, Mode.WEBHOOK)
    admission, upkeep = make_credentials(settings.webhook.auth)
    return WebhookSource(
        origin=origin,
        rules=WebhookRules(
            max_body=settings.webhook.max_body,
            refuse_rejects=settings.webhook.on_reject == "refuse",
            forbids=parts.forbids,
        ),
        credentials=admission,
        format_=make_format(origin, settings),
        intake=SourceIntake(parts.inbox, parts.metrics, label, Mode.WEBHOOK),
        bodies=parts.bodies,
        thread=parts.thread,
        coverage=parts.coverage,
        metrics=parts.metrics,
        clock=parts.clock,
        upkeep=upkeep,
    )


def make_sse(label: str, settings: SourceSettings, parts: SourceParts) -> SseSource:
    """The streams of a label."""
    origin = Origin(settings.product, label, Mode.SSE)
    sse = settings.sse
    return SseSource(
        origin=origin,
        rules=SseRules(
            url=sse.url,
            token=None if sse.token is None else sse.token.value,
            idle=sse.idle_timeout.total_seconds(),
            streams=sse.streams,
        ),
        format_=make_format(origin, settings),
        intake=SourceIntake(parts.inbox, parts.metrics, label, Mode.SSE),
        coverage=parts.coverage,
        budget=parts.budget,
        metrics=parts.metrics,
        now=parts.clock,
    )


def make_pubsub(label: str, settings: SourceSettings, parts: SourceParts) -> Source:
    """The subscription of a label."""
    from ingest.sources.pubsub.pull import PullRules  # Google's client takes a second to import: only where it is used
    from ingest.sources.pubsub.source import PubsubSource

    origin = Origin(settings.product, label, Mode.PUBSUB)
    pubsub = settings.pubsub
    return PubsubSource(
        origin=origin,
        rules=PullRules(
            subscription=pubsub.subscription or "",  # settings.rules: it is there
            max_messages=pubsub.max_messages,
            max_bytes=max(parts.inbox_bytes // pubsub.streams, 1),
            lease=round(pubsub.lease.total_seconds()),
        ),
        streams=pubsub.streams,
        format_=make_format(origin, settings),
        intake=SourceIntake(parts.inbox, parts.metrics, label, Mode.PUBSUB),
        metrics=parts.metrics,
        now=parts.clock,
    )


MAKERS: Mapping[Mode, Callable[[str, SourceSettings, SourceParts], Source]] = {
    Mode.WEBHOOK: make_webhook,
    Mode.SSE: make_sse,
    Mode.PUBSUB: make_pubsub,
}


def make_format(origin: Origin, settings: SourceSettings) -> ParticleFormat | GenericFormat:
    """What the source's senders write."""
    if settings.format == "particle":
        return ParticleFormat(origin, settings.ignore)
    given = settings.fields.model_dump(exclude_none=True) if settings.fields else {}
    return GenericFormat(origin, settings.ignore, Fields(**given))


def make_credentials(auth: AuthSettings) -> tuple[credentials.Credentials, credentials.KeyRefresher | None]:
    """How the source's senders prove who they are, and what must run for that."""
    if auth.type == "google-oidc":
        return _make_oidc(auth)
    secrets = auth.current_secrets
    makers: dict[str, Callable[[], credentials.Credentials]] = {
        "none": credentials.Anyone,
        "header": lambda: credentials.Header(auth.name, secrets),
        "query": lambda: credentials.Query(auth.name, secrets),
        "bearer": lambda: credentials.Bearer(secrets),
        "basic": lambda: credentials.Basic(secrets),
        "hmac": lambda: credentials.Hmac(auth.header, auth.prefix, auth.encoding, secrets),
        "github": lambda: credentials.github(secrets),
        "stripe": lambda: credentials.Stripe(secrets, time.time),
        "standard-webhooks": lambda: credentials.StandardWebhooks(secrets, time.time),
    }
    return makers[auth.type](), None


def _make_oidc(auth: AuthSettings) -> tuple[credentials.Credentials, credentials.KeyRefresher]:
    from ingest.sources.webhook.oidc import GoogleOidc  # google-auth takes 40 ms to import: only where it is used

    keys = SigningKeys()
    return GoogleOidc(auth.audience, auth.email, keys, time.time), keys
