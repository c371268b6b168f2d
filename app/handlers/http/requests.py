"""An `http` handler's requests: URL, signature, credentials, own headers, and the proxy that they go through."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from functools import lru_cache
from hmac import HMAC
from typing import Annotated, Literal
from urllib.request import getproxies, proxy_bypass

from pydantic import AfterValidator, BaseModel, Field
from yarl import URL

from ingest.settings.fields import STRICT, Text
from ingest.settings.secret import Secret
from ingest.sources.webhook.signatures import webhook_key

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_URL = re.compile(r"https?://[^\s/?#@]+(?:[/?][^\s#]*)?")
# What belongs to the connection, to the body, or to the promise that the signature makes.
_RESERVED = {
    *("accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect", "host"),
    *("keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "user-agent"),
    *("webhook-id", "webhook-signature", "webhook-timestamp"),
}


def _header_name(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError('expected the name of a header such as "X-Tenant"')
    if name.lower() in _RESERVED or name.lower().startswith("ce-"):
        raise ValueError("expected another header: this one is set by Headrace")
    return name


def _header_value(secret: Secret) -> Secret:
    if not secret.value().isprintable():
        raise ValueError("expected a text without control characters")
    return secret


def _url(url: str) -> str:
    try:
        valid = _URL.fullmatch(url) and URL(url).host and URL(url).port
    except ValueError:
        valid = False
    if not valid:
        raise ValueError("expected a URL that begins with https:// or http://, without user and password")
    return url


def _user(user: str) -> str:
    if ":" in user:
        raise ValueError("expected a name without a colon")
    return user


Url = Annotated[str, AfterValidator(_url)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderValue = Annotated[Secret, AfterValidator(_header_value)]


class NoAuth(BaseModel):
    """No credentials."""

    model_config = STRICT
    type: Literal["none"] = "none"

    def authorization(self) -> str | None:
        """Return the value of the header."""
        return None


class BearerAuth(BaseModel):
    """A token (RFC 6750)."""

    model_config = STRICT
    type: Literal["bearer"] = "bearer"
    token: HeaderValue

    def authorization(self) -> str | None:
        """Return the value of the header."""
        return f"Bearer {self.token.value()}"


class BasicAuth(BaseModel):
    """User and password (RFC 7617)."""

    model_config = STRICT
    type: Literal["basic"] = "basic"
    user: Annotated[Text, AfterValidator(_user)]
    password: Secret

    def authorization(self) -> str | None:
        """Return the value of the header."""
        return f"Basic {b64encode(f'{self.user}:{self.password.value()}'.encode()).decode()}"


Auth = Annotated[NoAuth | BearerAuth | BasicAuth, Field(discriminator="type")]


def signature(secrets: Iterable[str], message_id: str, timestamp: str, body: bytes) -> str:
    """Return the value of `webhook-signature` (Standard Webhooks): a signature by each secret, spaces between them."""
    signed = b"%b.%b.%b" % (message_id.encode(), timestamp.encode(), body)
    return " ".join(_signature(keyed, signed) for secret in secrets if (keyed := _keyed(secret)))


def _signature(keyed: HMAC, signed: bytes) -> str:
    mac = keyed.copy()
    mac.update(signed)
    return f"v1,{b64encode(mac.digest()).decode()}"


@lru_cache(maxsize=64)
def _keyed(secret: str) -> HMAC | None:
    """Return a signature that waits for its message: to begin one from a key takes OpenSSL 12 µs."""
    key = webhook_key(secret)
    return HMAC(key, digestmod="sha256") if key else None


def proxy_of(url: URL) -> URL | None:
    """Return the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY give for a URL."""
    proxy = getproxies().get(url.scheme)
    return None if proxy is None or proxy_bypass(f"{url.host}:{url.port}") else URL(proxy)
