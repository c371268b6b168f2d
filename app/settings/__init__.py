"""Configuration: what headrace.toml and the environment say, as immutable values, or every fault with its key."""

from __future__ import annotations

from app.settings.describe import describe
from app.settings.load import load
from app.settings.model import AccessSettings, ServerSettings, Settings, StoreSettings, is_loopback
from app.settings.rules import recommendations
from app.settings.sources import FieldSettings, SourceSettings
from ingest.settings.handlers import HandlerSettings, RetrySettings
from ingest.settings.quantities import format_duration, format_size
from ingest.settings.secret import Secret, masked_text, masked_url
from ingest.sources.pubsub.settings import PubsubSettings
from ingest.sources.sse.settings import SseSettings
from ingest.sources.webhook.auth import AnyAuth
from ingest.sources.webhook.settings import WebhookSettings

__all__ = [
    "AccessSettings",
    "AnyAuth",
    "FieldSettings",
    "HandlerSettings",
    "PubsubSettings",
    "RetrySettings",
    "Secret",
    "ServerSettings",
    "Settings",
    "SourceSettings",
    "SseSettings",
    "StoreSettings",
    "WebhookSettings",
    "describe",
    "format_duration",
    "format_size",
    "is_loopback",
    "load",
    "masked_text",
    "masked_url",
    "recommendations",
]
