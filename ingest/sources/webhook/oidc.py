"""`google-oidc`: the signed token that Pub/Sub puts beside what it pushes ("Authentication for push subscriptions")."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

from google.auth import jwt

from ingest.sources.webhook.credentials import authorization
from ingest.sources.webhook.signatures import Clock

_ISSUERS = ("https://accounts.google.com", "accounts.google.com")
_SKEW_SECONDS = 10
_MOST_REMEMBERED = 64  # Google sends the same token for up to an hour


class Keys(Protocol):
    """Certificates that somebody keeps; see ingest.sources.webhook.signing_keys."""

    def current(self) -> Mapping[str, str] | None:
        """Return them by key id, in PEM; None where none are known. Another mapping each time they were fetched."""
        ...

    def look_for(self, key_id: str) -> bool:
        """Note that a key id is not among them; return whether it may be a new one, for which they will be fetched."""
        ...


class GoogleOidc:
    """`Authorization: Bearer <JWT>`, signed by Google (RS256) for this audience and this service account's `email`.

    Verifying takes 80 µs, so tokens that were admitted are remembered until they expire or the keys change. Nobody but
    Google can make one, so looking them up need not take constant time.
    """

    needs_body: ClassVar[bool] = False
    challenge: ClassVar[str] = "Bearer"

    def __init__(self, audience: str, email: str, keys: Keys, clock: Clock) -> None:
        self._audience = audience
        self._email = email
        self._keys = keys
        self._clock = clock
        self._admitted: dict[str, float] = {}
        self._admitted_by: Mapping[str, str] | None = None

    def admits(self, headers: Mapping[str, str], query_string: bytes, body: bytes) -> bool | None:
        """Return True for a token that is valid now; None where that cannot be told yet, as a key is still to be
        fetched.
        """
        token, keys = authorization(headers, "bearer"), self._keys.current()
        if keys is not self._admitted_by:
            self._admitted, self._admitted_by = {}, keys
        if self._admitted.get(token, 0.0) > self._clock():
            return True
        key_id = _key_id(token)
        if key_id is None:
            return False
        if keys is None:
            return None
        if key_id not in keys:
            return None if self._keys.look_for(key_id) else False
        return self._verified(token, keys)

    def _verified(self, token: str, keys: Mapping[str, str]) -> bool:
        """Return whether signature, times and claims are right; then the token is remembered."""
        claims = _guarded(
            lambda: jwt.decode(token, certs=keys, audience=self._audience, clock_skew_in_seconds=_SKEW_SECONDS)
        )
        if claims.get("iss") not in _ISSUERS or claims.get("email") != self._email:
            return False
        if claims.get("email_verified") is not True:
            return False
        if len(self._admitted) >= _MOST_REMEMBERED:
            self._admitted.clear()
        self._admitted[token] = claims["exp"] + _SKEW_SECONDS
        return True


def _key_id(token: str) -> str | None:
    """Return the key that a token says it was signed with; None where it is no token, or says another algorithm."""
    header = _guarded(lambda: jwt.decode_header(token)) if token else {}
    key_id = header.get("kid")
    return key_id if header.get("alg") == "RS256" and isinstance(key_id, str) else None


def _guarded(decode: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return what a token says; nothing where it is not valid."""
    try:
        return decode()
    except Exception:  # google-auth names no bound to what it raises for the tokens that strangers make up
        return {}
