"""`type = "http"`: the table of a handler that posts to a receiver. What posts is imported when it is built."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from yarl import URL

from app.handlers.http.bodies import BATCHED
from app.handlers.http.requests import Auth, HeaderName, HeaderValue, NoAuth, Url, proxy_of
from app.handlers.http.tls import TlsSettings, client_tls
from ingest.errors import ConfigurationError
from ingest.settings.fields import split_text
from ingest.settings.handlers import HandlerSettings
from ingest.settings.quantities import parse_count
from ingest.settings.secret import Secret
from ingest.sources.webhook.signatures import webhook_key

if TYPE_CHECKING:
    from app.handlers.http.handler import HttpHandler

Statuses = Annotated[
    tuple[Annotated[int, BeforeValidator(parse_count), Field(ge=300, le=599)], ...], BeforeValidator(split_text)
]


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, Secret) else value


class HttpSettings(HandlerSettings):
    """`type = "http"`. The values of `headers` are never shown."""

    type: Literal["http"] = "http"
    url: Url
    format: Literal["cloudevents", "cloudevents-binary", "plain"] = "cloudevents"
    secrets: Annotated[tuple[Secret, ...], BeforeValidator(_several)] = ()
    auth: Auth = NoAuth()
    headers: Mapping[HeaderName, HeaderValue] = Field(default_factory=dict)
    tls: TlsSettings = TlsSettings()
    dead_on: Statuses = (400, 413, 414, 415, 422, 431, 501)
    pause_on: Statuses = (410,)

    def build(self, label: str, folder: Path) -> HttpHandler:
        """See HandlerSettings."""
        from app.handlers.http.handler import HttpHandler  # aiohttp takes a while to import

        tls = client_tls(f"handlers.{label}.tls", self.tls, folder, time.monotonic)
        proxy = proxy_of(URL(self.url))
        if proxy is not None and proxy.scheme not in {"http", "https"}:
            raise ConfigurationError(f"handlers.{label}.url: expected a proxy in the environment that speaks HTTP")
        return HttpHandler(self, tls)

    @field_validator("format")
    @classmethod
    def _can_be_a_batch(cls, format_: str, info: ValidationInfo) -> str:
        if format_ not in BATCHED and "batch" in info.data and info.data["batch"].events > 1:
            raise ValueError(f"expected one of {', '.join(BATCHED)} with batch.events above 1")
        return format_

    @field_validator("secrets")
    @classmethod
    def _are_signing_keys(cls, secrets: tuple[Secret, ...]) -> tuple[Secret, ...]:
        if not all(webhook_key(secret.value()) for secret in secrets):
            raise ValueError('expected a key in base64, after "whsec_" or alone')
        return secrets

    @field_validator("headers")
    @classmethod
    def _leave_authorization_to_auth(cls, headers: Mapping[str, Secret], info: ValidationInfo) -> Mapping[str, Secret]:
        given = any(name.lower() == "authorization" for name in headers)
        if given and not isinstance(info.data.get("auth"), NoAuth):
            raise ValueError("expected no Authorization beside auth")
        return headers
