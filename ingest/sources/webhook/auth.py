"""`[sources.<label>.webhook.auth]`: a table for each way in which senders prove who they are."""

from __future__ import annotations

import re
import time
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from ingest.settings.fields import STRICT, Text
from ingest.settings.secret import Secret
from ingest.sources.webhook import credentials, signatures
from ingest.sources.webhook.credentials import Credentials, Encoding, KeyRefresher

Made = tuple[Credentials, KeyRefresher | None]
"""Credentials, and what must run beside the requests for them."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2


def _header_name(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError('expected the name of a header such as "X-Signature"')
    return name


def _several(value: object) -> object:
    return (value,) if isinstance(value, Secret) else value


def _user_passwords(secrets: tuple[Secret, ...]) -> tuple[Secret, ...]:
    if not all(":" in text for text in _in_force(secrets)):
        raise ValueError('expected "user:password"')
    return secrets


def _signing_keys(secrets: tuple[Secret, ...]) -> tuple[Secret, ...]:
    if not all(map(signatures.webhook_key, _in_force(secrets))):
        raise ValueError('expected a key in base64, after "whsec_" or alone')
    return secrets


def _in_force(secrets: tuple[Secret, ...]) -> list[str]:
    """Return the secrets as they are now; an empty one stands for one whose mode does not run."""
    return [text for secret in secrets if (text := secret.value())]


HeaderName = Annotated[str, AfterValidator(_header_name)]
Secrets = Annotated[tuple[Secret, ...], BeforeValidator(_several), Field(min_length=1)]
"""One secret, or several during a rotation; re-read where they come from files."""


def _current(secrets: tuple[Secret, ...]) -> credentials.Secrets:
    return lambda: tuple([secret.value() for secret in secrets])


class NoAuth(BaseModel):
    """Everybody is let in."""

    model_config = STRICT
    type: Literal["none"] = "none"

    def credentials(self) -> Made:
        """Make its credentials."""
        return credentials.Anyone(), None


class HeaderAuth(BaseModel):
    """A secret as the value of a header."""

    model_config = STRICT
    type: Literal["header"] = "header"
    name: HeaderName
    secrets: Secrets

    def credentials(self) -> Made:
        """Make its credentials."""
        return credentials.Header(self.name, _current(self.secrets)), None


class QueryAuth(BaseModel):
    """A secret as the value of a query parameter."""

    model_config = STRICT
    type: Literal["query"] = "query"
    name: Text
    secrets: Secrets

    def credentials(self) -> Made:
        """Make its credentials."""
        return credentials.Query(self.name, _current(self.secrets)), None


class BearerAuth(BaseModel):
    """A secret as a bearer token (RFC 6750)."""

    model_config = STRICT
    type: Literal["bearer"] = "bearer"
    secrets: Secrets

    def credentials(self) -> Made:
        """Make its credentials."""
        return credentials.Bearer(_current(self.secrets)), None


class BasicAuth(BaseModel):
    """User and password, as one text with a colon (RFC 7617)."""

    model_config = STRICT
    type: Literal["basic"] = "basic"
    secrets: Annotated[Secrets, AfterValidator(_user_passwords)]

    def credentials(self) -> Made:
        """Make its credentials."""
        return credentials.Basic(_current(self.secrets)), None


class HmacAuth(BaseModel):
    """A signature of the body in a header, after `prefix`."""

    model_config = STRICT
    type: Literal["hmac"] = "hmac"
    header: HeaderName
    prefix: str = ""
    encoding: Encoding = "hex"
    secrets: Secrets

    def credentials(self) -> Made:
        """Make its credentials."""
        return signatures.Hmac(self.header, self.prefix, self.encoding, _current(self.secrets)), None


class GithubAuth(BaseModel):
    """GitHub's signature of the body."""

    model_config = STRICT
    type: Literal["github"] = "github"
    secrets: Secrets

    def credentials(self) -> Made:
        """Make its credentials."""
        return signatures.github(_current(self.secrets)), None


class StripeAuth(BaseModel):
    """Stripe's signature of time and body."""

    model_config = STRICT
    type: Literal["stripe"] = "stripe"
    secrets: Secrets

    def credentials(self) -> Made:
        """Make its credentials."""
        return signatures.Stripe(_current(self.secrets), time.time), None


class StandardWebhooksAuth(BaseModel):
    """The signature of Standard Webhooks, or Svix."""

    model_config = STRICT
    type: Literal["standard-webhooks"] = "standard-webhooks"
    secrets: Annotated[Secrets, AfterValidator(_signing_keys)]

    def credentials(self) -> Made:
        """Make its credentials."""
        return signatures.StandardWebhooks(_current(self.secrets), time.time), None


class GoogleOidcAuth(BaseModel):
    """Google's signed token for this audience and the service account with this `email`."""

    model_config = STRICT
    type: Literal["google-oidc"] = "google-oidc"
    audience: Text
    email: Text

    def credentials(self) -> Made:
        """Make its credentials, and what keeps Google's keys."""
        from ingest.sources.webhook.oidc import GoogleOidc  # google-auth takes 40 ms to import: only where it is used
        from ingest.sources.webhook.signing_keys import SigningKeys

        keys = SigningKeys()
        return GoogleOidc(self.audience, self.email, keys, time.time), keys


AnyAuth = (
    NoAuth
    | HeaderAuth
    | QueryAuth
    | BearerAuth
    | BasicAuth
    | HmacAuth
    | GithubAuth
    | StripeAuth
    | StandardWebhooksAuth
    | GoogleOidcAuth
)
AuthSettings = Annotated[AnyAuth, Field(discriminator="type")]
