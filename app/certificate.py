"""HTTPS with files that are replaced while we serve: who connects after that gets the new certificate."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from app.renewed import Renewed

_LOOK_SECONDS = 1.0


class Certificate:
    """A certificate and its key, re-read when `renew` finds other files. Raises OSError where they cannot be loaded.

    A context is never loaded twice: files that do not match would leave it half new, and a certificate with another
    kind of key would only stand beside the old one. `context` listens, and gives each handshake to the newest.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._contexts = Renewed((certificate, key), lambda: load_certificate(certificate, key))
        self.context = self._contexts.newest
        self.context.sni_callback = self._hand_over  # asked at every handshake, also where no name is given
        self.renew = self._contexts.renew

    async def keep_renewed(self) -> None:
        """Look once a second, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.renew()

    def _hand_over(self, handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        handshake.context = self._contexts.newest


def load_certificate(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return what serves with these files.

    Raises OSError (ssl.SSLError is one) where they cannot be read or do not match.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key, password="")  # or OpenSSL would ask for one at the terminal
    return context
