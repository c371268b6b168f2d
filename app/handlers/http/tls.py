"""TLS of an `http` handler: whom it believes, and how it shows who it is."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, model_validator

from app.renewed import Renewed
from ingest.errors import ConfigurationError
from ingest.settings.fields import STRICT

_LOOK_SECONDS = 1.0


class TlsSettings(BaseModel):
    """`ca`: whose certificates are believed in place of the system's; `cert` and `key`: our own. PEM files."""

    model_config = STRICT

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _are_a_pair(self) -> TlsSettings:
        if (self.cert is None) != (self.key is None):
            raise ValueError("expected cert and key together")
        return self


class ClientTls:
    """The context of new connections. The files are looked at once a second of `clock`, when somebody asks.

    Connections are kept by context, so those that were made with an older one are not used again.
    """

    def __init__(self, contexts: Renewed[ssl.SSLContext], clock: Callable[[], float]) -> None:
        self._contexts = contexts
        self._clock = clock
        self._looked_at = clock()

    def context(self) -> ssl.SSLContext:
        """Return the newest context."""
        now = self._clock()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            self._contexts.renew()
        return self._contexts.newest


def client_tls(key: str, settings: TlsSettings, folder: Path, clock: Callable[[], float]) -> ClientTls:
    """Return the TLS that the settings of `key` describe. Raises ConfigurationError, which names the file's key."""
    files = {name: folder / path for name, path in settings if path is not None}

    def load() -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=files.get("ca"))
        if "cert" in files:
            context.load_cert_chain(files["cert"], files["key"], password="")  # or OpenSSL would ask at the terminal
        return context

    for name, path in files.items():
        if not path.is_file():
            raise ConfigurationError(f"{key}.{name}: expected a file that is there")
    try:
        return ClientTls(Renewed(tuple(files.values()), load), clock)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(f"{key}: expected PEM files that belong together ({error})") from None
