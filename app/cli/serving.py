"""`headrace serve`: the service in the foreground, with the built-in fleet beside it if asked for."""

from __future__ import annotations

import os
import sys

import uvloop

from app import main
from app.cli.demo import demo_fleet, demo_stream, with_demo_handlers, with_demo_stream, with_demo_subscription
from app.cli.output import show
from app.cli.store import sqlite_file, store_explained
from app.logs import configure_logs
from app.settings import Settings


class Greeting:
    """Tells a person at a terminal where to look, once the service is ready."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def run(self) -> None:
        """Print three lines."""
        file = sqlite_file(self._settings)
        show(f"Pages: {address(self._settings)}/")
        show(f"Events are stored in {self._settings.store.url if file is None else file.absolute()}")
        show("Ctrl+C stops it.")


def address(settings: Settings) -> str:
    """The URL by which this machine reaches the server, without a slash at the end."""
    host = settings.server.host.strip("[]")
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    scheme = "https" if settings.server.tls_cert else "http"
    return f"{scheme}://{f'[{reachable}]' if ':' in reachable else reachable}:{settings.server.port}"


def run_service(settings: Settings, *, demo: bool) -> None:
    """Serve until a signal. Raises ConfigurationError, or Fault where the store cannot be used."""
    configure_logs()
    companions: list[main.Companion] = []
    if demo:
        settings = with_demo_handlers(settings)
        stream = demo_stream(settings)
        settings = with_demo_stream(settings, stream)
        elsewhere = [stream.send]
        if os.environ.get("PUBSUB_EMULATOR_HOST"):
            from app.simulator.topic import ProductTopic  # Google's client takes a second to import

            topic = ProductTopic()
            settings = with_demo_subscription(settings, topic.subscription)
            elsewhere.append(topic.send)
        companions += [stream, demo_fleet(settings, address(settings), elsewhere)]
    if sys.stdout.isatty() and settings.server.port:
        companions.append(Greeting(settings))
    with store_explained(settings):
        uvloop.run(main.serve(settings, companions))
