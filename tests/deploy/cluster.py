"""Two servers on one PostgreSQL behind a real balancer, with the files of deploy/."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.deploy.balancers import balancing
from tests.support.ledger import Ledger
from tests.support.oracle import Load, plan, verify
from tests.support.postgres import fresh_database
from tests.support.server import Server

HOOK_SECRET = "h" * 32
PATH = "/ingest/fleet"
_CONFIG = """
[server]
drain_delay = "5s"
trusted_proxies = ["127.0.0.1"]

[access]
read_tokens = ["read-token-of-the-test"]
admin_tokens = ["admin-token-of-the-test"]

[store]
url = "{url}"

[sources.fleet.webhook]
auth = {{ type = "header", name = "X-Particle-Key", secrets = ["{secret}"] }}
"""


@dataclass(frozen=True)
class Cluster:
    """The servers, their database's URL, and the port of the balancer in front of them."""

    servers: Sequence[Server]
    store: str
    port: int
    folder: Path
    _ledgers: dict[str, Ledger] = field(default_factory=dict)

    def verify(self, run: str, ledger: Ledger) -> None:
        """Raise AssertionError unless the store owes nothing of this run and of those before."""
        self._ledgers[run] = ledger
        verify(self.store, self._ledgers)

    def load(self, run: str = "load", **rest: object) -> Load:
        """Return an oracle that posts through the balancer as fast as it is answered."""
        url = f"http://127.0.0.1:{self.port}{PATH}"
        headers = {"X-Particle-Key": HOOK_SECRET}
        return Load(plan(url, run, self.folder, **({"connections": 16, "headers": headers} | rest)))


@contextmanager
def cluster(balancer: str, folder: Path) -> Iterator[Cluster]:
    """Two ready servers, migrated to, behind nginx or HAProxy."""
    url = fresh_database()
    with ExitStack() as running:
        servers = []
        for number in (1, 2):
            (folder / str(number)).mkdir()
            servers.append(Server(folder / str(number), _CONFIG.format(url=url, secret=HOOK_SECRET)))
        servers[0].migrate()
        for server in servers:
            running.enter_context(server)
        port = running.enter_context(balancing(balancer, folder / balancer, [server.port for server in servers]))
        yield Cluster(servers, url, port, folder)


def restart_in_turn(servers: Sequence[Server]) -> None:
    """SIGTERM, wait, start, until ready; one after another, as a rolling restart does."""
    for server in servers:
        assert server.terminate() == 0, server.log_tail()
        server.start()
