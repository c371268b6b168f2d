"""`[sources.<label>]`: whose events arrive, by which modes, and in which format."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationInfo, field_validator

from app.settings.auth import AuthSettings
from ingest.event import Mode
from ingest.settings.fields import STRICT, Text, Texts, split_text
from ingest.settings.quantities import Count, PositiveDuration, Size
from ingest.settings.secret import Secret

IGNORE = ("hook-sent/", "hook-response/", "hook-error/")

_MODES = tuple(str(mode) for mode in Mode)
_RESERVED = ("/api", "/metrics", "/livez", "/readyz", "/docs", "/openapi.json")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+/?")
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+|sse:id")
_LEAST_LEASE, _LONGEST_LEASE = timedelta(seconds=10), timedelta(minutes=10)
_SUBSCRIPTION = re.compile(r"projects/[^/\s]+/subscriptions/[^/\s]+")


def _path(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise ValueError('expected a path such as "/ingest/fleet"')
    if any(f"{path}/".startswith(f"{reserved}/") for reserved in _RESERVED):
        raise ValueError(f"expected a path outside {', '.join(_RESERVED)}")
    return path.rstrip("/")


def _url(url: str) -> str:
    if not re.fullmatch(r"https?://[^\s/@]+(/\S*)?", url):
        raise ValueError("expected a URL that begins with https:// or http://, without user and password")
    return url


def _stream_url(url: str) -> str:
    if "access_token=" in url:
        raise ValueError("expected a URL without access_token: put it into token, where nothing shows it")
    return _url(url)


def _subscription(name: str) -> str:
    if not _SUBSCRIPTION.fullmatch(name):
        raise ValueError('expected "projects/<project>/subscriptions/<name>"')
    return name


def _lease(lease: timedelta) -> timedelta:
    if not _LEAST_LEASE <= lease <= _LONGEST_LEASE:
        raise ValueError('expected a duration from "10s" to "10m", which is what Pub/Sub grants')
    return lease


def _pointer(pointer: str) -> str:
    if not _POINTER.fullmatch(pointer):
        raise ValueError('expected a JSON pointer such as "/id" (RFC 6901), "header:Name" or "sse:id"')
    return pointer


def _modes(value: Any) -> Any:
    modes = split_text(value)
    if not isinstance(modes, list) or not modes or any(modes.count(mode) > 1 or mode not in _MODES for mode in modes):
        raise ValueError(f"expected {', '.join(_MODES)}, or a list with each at most once")
    return modes


def _nothing(value: Any) -> None:
    if value not in (None, ""):
        raise ValueError("this version does not detect losses yet, leave it out")


Pointer = Annotated[str, AfterValidator(_pointer)]
NotBuilt = Annotated[None, BeforeValidator(_nothing)]
Modes = Annotated[tuple[Mode, ...], BeforeValidator(_modes)]


class WebhookSettings(BaseModel):
    """What is posted to `path`; `max_body` in bytes, inflated."""

    model_config = STRICT

    path: Annotated[str, AfterValidator(_path)]
    auth: AuthSettings = AuthSettings(type="none")
    max_body: Size = 1 << 20
    on_reject: Literal["accept", "refuse"] = "accept"


class SseSettings(BaseModel):
    """Streams that we open. The path of `url` says which: of a product, of our own devices, of a prefix of names."""

    model_config = STRICT

    url: Annotated[str, AfterValidator(_stream_url)]
    token: Secret | None = None
    idle_timeout: PositiveDuration = timedelta(seconds=20)
    streams: Annotated[Count, Field(le=32)] = 1


class PubsubSettings(BaseModel):
    """A subscription that we pull. `lease`: how long a killed process keeps its messages from others."""

    model_config = STRICT

    subscription: Annotated[str, AfterValidator(_subscription)] | None = None
    streams: Annotated[Count, Field(le=32)] = 1
    max_messages: Count = 1000
    lease: Annotated[PositiveDuration, AfterValidator(_lease)] = _LEAST_LEASE


class FieldSettings(BaseModel):
    """Where the generic format finds the parts of an event: a JSON pointer, "header:Name", "sse:id", or None for
    its default.
    """

    model_config = STRICT

    id: Pointer | None = None
    device: Pointer | None = None
    name: Pointer | None = None
    time: Pointer | None = None
    data: Pointer | None = None


class SourceSettings(BaseModel):
    """One source. `product`, `webhook.path` and `sse.url` are filled in from the label before validation."""

    model_config = STRICT

    product: Text
    modes: Modes = Field(default=(Mode.WEBHOOK,), alias="mode")
    format: Literal["particle", "generic"] = "particle"
    fields: FieldSettings | None = None
    ignore: Texts = IGNORE
    sequence: NotBuilt = None
    sequence_epoch: NotBuilt = None
    loss_grace: NotBuilt = None
    webhook: WebhookSettings
    sse: SseSettings
    pubsub: PubsubSettings

    @field_validator("fields")
    @classmethod
    def _only_generic(cls, fields: FieldSettings | None, info: ValidationInfo) -> FieldSettings | None:
        if fields is not None and info.data.get("format") == "particle":
            raise ValueError('does not go with format = "particle"')
        return fields
