"""HTTPS with files that are replaced while we serve: who connects after that gets the new certificate."""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path

import structlog

_Stamp = tuple[int, int, int]  # what shows that a file is another one

_LOOK_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Certificate:
    """A certificate and its key, re-read when `renew` finds other files. Raises OSError where they cannot be loaded.

    A context is never loaded twice: files that do not match would leave it half new, and a certificate with another
    kind of key would only stand beside the old one. `context` listens, and gives each handshake to the newest.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = certificate, key
        self._loaded = self._refused = self._look()
        self._newest = self.context = load_certificate(certificate, key)
        self.context.sni_callback = self._hand_over  # asked at every handshake, also where no name is given

    def renew(self) -> None:
        """Load what changed. What cannot be loaded is logged once, tried again at the next call, and never served."""
        found = self._look()
        if found == self._loaded:
            return
        try:
            self._newest = load_certificate(*self._files)
        except OSError as error:
            if found != self._refused:
                log.warning("certificate_not_renewed", certificate=str(self._files[0]), error=str(error))
            self._refused = found
            return
        self._loaded = self._refused = found
        log.info("certificate_renewed", certificate=str(self._files[0]))

    async def keep_renewed(self) -> None:
        """Look once a second, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.renew()

    def _look(self) -> tuple[_Stamp | None, ...]:
        return tuple(map(_stamp, self._files))

    def _hand_over(self, handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        handshake.context = self._newest


def load_certificate(certificate: Path, key: Path) -> ssl.SSLContext:
    """What serves with these files. Raises OSError (ssl.SSLError is one) where they cannot be read or do not match."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key, password="")  # or OpenSSL would ask for one at the terminal
    return context


def _stamp(file: Path) -> _Stamp | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
