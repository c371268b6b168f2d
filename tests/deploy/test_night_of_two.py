"""A night of two servers on PostgreSQL that pull a subscription: what a single server cannot show."""

from __future__ import annotations

import itertools
import re
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.deploy.night import posting
from tests.deploy.prometheus import Prometheus, scraping, shortened
from tests.deploy.runbook import first_command, run_in_shell
from tests.support.emulator import make, new_queue, session_emulator, subscriber
from tests.support.numbered import Numbered
from tests.support.postgres import own_server
from tests.support.server import Server
from tests.support.tls import make_certificate

CONFIG = """
[server]
tls_cert = "{folder}/certificate.pem"
tls_key = "{folder}/key.pem"
[store]
url = "{url}"
[sources.fleet]
product = "tracker"
[sources.queue]
mode = "pubsub"
[sources.queue.pubsub]
subscription = "{subscription}"
"""


@pytest.mark.chaos
def test_a_night_of_two_servers(tmp_path: Path) -> None:
    """A dead server, a stopped database, a deleted subscription and an old certificate are each told of, alone."""
    emulator = session_emulator()
    queue = new_queue(emulator.host)
    make_certificate(tmp_path)
    database = own_server()
    config = CONFIG.format(folder=tmp_path, url=database.fresh_database(), subscription=queue.subscription)
    rules = shortened(tmp_path, 0.3, HeadraceCertificateExpiring="14 * 86400 -> 3600")
    events, numbers = Numbered("night", datetime.now(UTC)), itertools.count()
    with ExitStack() as running:
        one, two = servers = [_server(tmp_path / name, config, emulator.host) for name in ("one", "two")]
        one.migrate()
        for server in servers:
            running.enter_context(server)
        targets = [f"127.0.0.1:{server.port}" for server in servers]
        prometheus = running.enter_context(scraping(tmp_path / "prometheus", targets, rules, https=True))
        running.enter_context(posting(one, lambda: events.body(next(numbers)), 20))
        prometheus.expect_calm()

        two.kill()
        _told(prometheus, "HeadraceInstanceDown", two, "nothing answers /livez")
        two.start()
        prometheus.expect_calm()

        with database.outage():
            _told(prometheus, "HeadraceStoreUnavailable", one, "/readyz .* answered 503")
        prometheus.expect_calm()

        subscriber(emulator.host).delete_subscription(subscription=queue.subscription)
        _told(prometheus, "HeadraceSourceUnauthorized", one, '"source":"queue".*does not exist')
        make(queue)
        prometheus.expect_calm()

        _serve_certificate(tmp_path, minutes=30)
        _told(prometheus, "HeadraceCertificateExpiring", one, "notAfter", TLS_CERT=str(tmp_path / "certificate.pem"))


def _server(folder: Path, config: str, emulator: str) -> Server:
    folder.mkdir()
    return Server(folder, config, environment={"PUBSUB_EMULATOR_HOST": emulator}, https=True)


def _told(prometheus: Prometheus, alert: str, server: Server, shows: str, **variables: str) -> None:
    """The alert fires alone, and the runbook's first command shows the cause."""
    prometheus.expect_alone(alert)
    known = {"URL": server.url, "HEADRACE_CONFIG": str(server.config), "HEADRACE_SERVER__PORT": str(server.port)}
    shown = run_in_shell(first_command(alert).replace("curl ", "curl -k "), known | variables)
    assert re.search(shows, shown), f"the runbook's command for {alert} shows\n{shown}"


def _serve_certificate(folder: Path, minutes: int) -> None:
    """Put a certificate that is valid for so long into the place of the one that is served."""
    made = folder / "short"
    made.mkdir()
    make_certificate(made, valid=timedelta(minutes=minutes))
    for file in made.iterdir():
        file.replace(folder / file.name)
