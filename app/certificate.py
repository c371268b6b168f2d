"""HTTPS with files that are replaced while we serve: who connects after that gets the new certificate."""

from __future__ import annotations

import asyncio
import ssl
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from app.renewed import Renewed

_LOOK_SECONDS = 1.0


class _Loaded(NamedTuple):
    context: ssl.SSLContext
    expires_at: datetime


class Certificate:
    """A certificate and its key, re-read when `renew` finds other files. Raises OSError where they cannot be loaded.

    A context is never loaded twice: files that do not match would leave it half new, and a certificate with another
    kind of key would only stand beside the old one. `context` listens, and gives each handshake to the newest.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._loaded = Renewed(
            (certificate, key), lambda: _Loaded(load_certificate(certificate, key), expiry(certificate))
        )
        self.context = self._loaded.newest.context
        self.context.sni_callback = self._hand_over  # asked at every handshake, also where no name is given
        self.renew = self._loaded.renew

    async def keep_renewed(self) -> None:
        """Look once a second, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.renew()

    def expiry_seconds(self) -> float:
        """Return when the newest certificate expires, in seconds since 1970."""
        return self._loaded.newest.expires_at.timestamp()

    def _hand_over(self, handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        handshake.context = self._loaded.newest.context


def load_certificate(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return what serves with these files.

    Raises OSError (ssl.SSLError is one) where they cannot be read or do not match.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key, password="")  # or OpenSSL would ask for one at the terminal
    return context


def expiry(certificate: Path) -> datetime:
    """Return when the first certificate of a file expires. Raises OSError where there is none."""
    from cryptography import x509  # it takes a while, and few serve TLS themselves

    try:
        return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except ValueError as error:
        raise OSError(f"{certificate} holds no certificate: {error}") from None
