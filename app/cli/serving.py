"""`headrace serve`: the service in the foreground, with the built-in fleet beside it if asked for."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import structlog
import typer
import uvloop

from app import start
from app.cli.demo import SOURCE, demo_fleet, demo_settings
from app.cli.health import reachable
from app.cli.output import show
from app.cli.store import sqlite_file, store_explained
from app.logs import configure_logs
from app.main import Companion
from app.settings import Settings, recommendations
from app.simulator.stream import ProductStream

TOKEN_FILE = Path("headrace.token")

log = structlog.get_logger(__name__)


class Greeting:
    """Tells whoever started the service where to look and with which token to act, once it is ready."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def run(self) -> None:
        """Print a line, at a terminal three; keep the token that was made. Never fails."""
        token = self._settings.access.action_token
        if token is not None:
            try:
                write_token(TOKEN_FILE, token.value())
            except OSError as error:
                log.warning("token_not_written", file=str(TOKEN_FILE), error=error.strerror)
        with suppress(OSError, typer.Exit):  # nobody has to read it
            if self._settings.server.port and (token is not None or sys.stdout.isatty()):
                show(f"Pages: {address(self._settings)}/{'' if token is None else f'#token={token.value()}'}")
            if sys.stdout.isatty():
                file = sqlite_file(self._settings)
                show(f"Events are stored in {self._settings.store.url if file is None else file.absolute()}")
                show("Ctrl+C stops it.")


def write_token(file: Path, token: str) -> None:
    """Put the token into a new file that nobody else may read (0600), in the place of an older one. Raises OSError."""
    descriptor, written = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.absolute().parent)
    try:
        with open(descriptor, "w") as text:
            text.write(f"{token}\n")
        os.replace(written, file)
    except OSError:
        os.unlink(written)
        raise


def address(settings: Settings) -> str:
    """The URL by which this machine reaches the server, without a slash at the end."""
    host = reachable(settings.server.host)
    scheme = "https" if settings.server.tls_cert else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.server.port}"


def run_service(settings: Settings, *, demo: bool) -> None:
    """Serve until a signal. Raises ConfigurationError, or Fault where the store cannot be used."""
    configure_logs()
    for remark in recommendations(settings):
        log.info("configuration_remark", remark=remark)
    access = settings.access.with_action_token(secrets.token_urlsafe(32))
    settings = settings.model_copy(update={"access": access})
    companions: list[Companion] = []
    if demo:
        stream = ProductStream(SOURCE)
        elsewhere, subscription = [stream.send], None
        if os.environ.get("PUBSUB_EMULATOR_HOST"):
            from app.simulator.topic import ProductTopic  # Google's client takes a second to import

            topic = ProductTopic()
            subscription = topic.subscription
            elsewhere.append(topic.send)
        settings = demo_settings(settings, stream.url, subscription)
        companions += [stream, demo_fleet(settings, address(settings), elsewhere)]
    companions.append(Greeting(settings))
    with store_explained(settings):
        uvloop.run(start.serve(settings, companions))
