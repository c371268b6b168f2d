"""How a webhook's senders prove who they are: the `auth` table of a webhook source."""

from __future__ import annotations

import binascii
import re
import time
from base64 import b64decode
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo, field_validator

from ingest.settings.fields import STRICT
from ingest.settings.secret import Secret
from ingest.sources.webhook import credentials

AuthType = Literal[
    "none", "header", "query", "bearer", "basic", "hmac", "github", "stripe", "standard-webhooks", "google-oidc"
]

_REQUIRED = {
    "none": set[str](),
    "header": {"name", "secrets"},
    "query": {"name", "secrets"},
    "hmac": {"header", "secrets"},
    "google-oidc": {"audience", "email"},
}
_OPTIONAL = {"hmac": {"prefix", "encoding"}}
_SECRETS_ONLY = {"secrets"}

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, Secret) else value


class AuthSettings(BaseModel):
    """One auth type and what it needs; a key that the type does not use is a fault, so that nobody relies on it."""

    model_config = STRICT

    type: AuthType
    name: str = Field(default="", validate_default=True)
    header: str = Field(default="", validate_default=True)
    prefix: str = ""
    encoding: Literal["hex", "base64"] = "hex"
    audience: str = Field(default="", validate_default=True)
    email: str = Field(default="", validate_default=True)
    secrets: Annotated[tuple[Secret, ...], BeforeValidator(_several)] = Field(default=(), validate_default=True)

    def current_secrets(self) -> tuple[str, ...]:
        """The secrets in force now: several during a rotation, re-read where they come from files."""
        return tuple([secret.value() for secret in self.secrets])

    @field_validator("name", "header", "prefix", "encoding", "audience", "email", "secrets")
    @classmethod
    def _goes_with_type(cls, value: Any, info: ValidationInfo) -> Any:
        auth_type, key = info.data.get("type"), info.field_name or ""
        if auth_type is None:  # itself at fault
            return value
        required = _REQUIRED.get(auth_type, _SECRETS_ONLY)
        if key in required and not value:
            raise ValueError(f'required with type = "{auth_type}"')
        if key not in required | _OPTIONAL.get(auth_type, set()) and value != cls.model_fields[key].default:
            raise ValueError(f'does not go with type = "{auth_type}"')
        return value

    @field_validator("name", "header")
    @classmethod
    def _is_header_name(cls, value: str, info: ValidationInfo) -> str:
        if value and info.data.get("type") != "query" and not _HEADER_NAME.fullmatch(value):
            raise ValueError('expected the name of a header such as "X-Signature"')
        return value

    @field_validator("secrets")
    @classmethod
    def _has_shape_of_type(cls, secrets: tuple[Secret, ...], info: ValidationInfo) -> tuple[Secret, ...]:
        """Only where it is read at all: an empty secret stands for one that does not run."""
        texts = [text for secret in secrets if (text := secret.value())]
        if info.data.get("type") == "basic" and not all(":" in text for text in texts):
            raise ValueError('expected "user:password"')
        if info.data.get("type") == "standard-webhooks" and not all(map(_is_signing_key, texts)):
            raise ValueError('expected a key in base64, after "whsec_" or alone')
        return secrets


def _is_signing_key(text: str) -> bool:
    try:
        return bool(b64decode(text.removeprefix("whsec_"), validate=True))
    except (binascii.Error, ValueError):
        return False


def make_credentials(auth: AuthSettings) -> tuple[credentials.Credentials, credentials.KeyRefresher | None]:
    """Return how senders prove who they are, and what must run for that."""
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
    from ingest.sources.webhook.signing_keys import SigningKeys

    keys = SigningKeys()
    return GoogleOidc(auth.audience, auth.email, keys, time.time), keys
