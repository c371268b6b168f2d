"""Replicas on one PostgreSQL behind a balancer: an oracle, two streams, a subscription, and what is done to them."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg

from tests.chaos.pubsub_scene import Publishing
from tests.deploy.balancers import balancing
from tests.support.emulator import Queue, new_queue, session_emulator
from tests.support.ledger import Ledger
from tests.support.losses import RESTARTED
from tests.support.numbered import Numbered, number_of
from tests.support.oracle import Load, plan, verify
from tests.support.pooler import pooled
from tests.support.postgres import Postgres, own_server
from tests.support.pubsub_proxy import pubsub_proxy
from tests.support.server import PATIENCE_SECONDS, Server, wait_until
from tests.support.upstream.rules import Rules
from tests.support.upstream.running import RunningUpstream, upstream_plan

SECRET = "s" * 32
PAUSE_SECONDS = (0.01, 0.03)
_MESSAGES, _MESSAGES_A_SECOND = 20_000, 10.0  # more than the longest run takes
_MOVED_SECONDS = 15.0  # within which a lease has moved after a death
_CONFIG = """
[server]
drain_delay = "1s"
trusted_proxies = ["127.0.0.1"]
[access]
open = true
[store]
url = "{url}"
[sources.fleet]
product = "hooks"
[sources.fleet.webhook]
auth = {{ type = "header", name = "X-Particle-Key", secrets = ["{secret}"] }}
[sources.stream]
product = "tracker"
mode = "sse"
[sources.stream.sse]
url = "{stream}"
token = "any"
streams = {streams}
idle_timeout = "3s"
[sources.queue]
product = "queue"
mode = "pubsub"
[sources.queue.pubsub]
subscription = "{subscription}"
[handlers.notes]
type = "python"
call = "replica_notes:on_event"
from = "beginning"
"""
_HANDLER = """
import os
NOTES = os.open({path!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

async def on_event(event):
    os.write(NOTES, b"%d %d\\n" % (os.getpid(), event.position))
"""
# Replicas that have listened to a stream for two seconds, and until just now.
_LISTENING = """
SELECT count(DISTINCT c.holder) FROM coverage c JOIN replicas r USING (holder)
WHERE c.source = 'stream' AND NOT c.ended AND r.expires_at > {now} AND c.until - c.since > 2000000
  AND c.until > {now} - 3000000
""".format(now="(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint")


@dataclass
class ReplicaScene:
    """The servers, and what they are between. `acted` is what was done to them, for a failure's report."""

    servers: Sequence[Server]
    database: Postgres
    store: str
    upstream: RunningUpstream
    notes: Path
    load: Load
    publishing: Publishing
    streams: int = 2
    acted: list[str] = field(default_factory=list)

    def query(self, statement: str, *values: object) -> list[Any]:
        """Return the rows of a statement."""
        return asyncio.run(_fetch(self.store, statement, *values))

    def settle(self) -> None:
        """Return when two replicas listen, new events of stream and queue are stored, and requests are acknowledged."""
        self.wait(self.all_listen, "not as many replicas listen as there are streams")
        streamed, published = self.upstream.newest, self.publishing.published
        acknowledged = self.load.progress.acknowledged
        self.wait(lambda: self.newest("stream") > streamed, "the stream's events are not stored")
        self.wait(lambda: self.newest("queue") > published, "the queue's messages are not stored")
        self.wait(lambda: self.load.progress.acknowledged > acknowledged + 20, "no request is acknowledged")

    def all_listen(self) -> bool:
        """Return whether each stream has a replica of its own that listens."""
        return bool(self.query(_LISTENING)[0][0] == self.streams)

    def newest(self, source: str) -> int:
        """Return the number of the last event of a source that is stored."""
        rows = self.query("SELECT data FROM events WHERE source = $1 ORDER BY position DESC LIMIT 1", source)
        found = number_of(rows[0][0]) if rows else None
        return found[1] if found else -1

    def wait(self, condition: Callable[[], bool], failure: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Return when the condition holds, also past a database that is away."""

        def holds() -> bool:
            try:
                return condition()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                return False

        wait_until(holds, seconds, lambda: f"{failure} after {self.acted}\n{self.tails()}", every=0.1)

    def tails(self) -> str:
        """Return the end of each server's log."""
        return "\n".join(f"--- {server.folder.name}\n{server.log_tail(3000)}" for server in self.servers)

    def kill_briefly(self, server: Server) -> None:
        """SIGKILL, and a start at once: the dead one's row still lives."""
        server.kill()
        server.start()

    def kill(self, server: Server) -> None:
        """SIGKILL; its leases move in time; then it comes back."""
        server.kill()
        killed = time.monotonic()
        self.wait(lambda: self.query(_LISTENING)[0][0] >= min(2, len(self.servers) - 1), "no replica took over")
        self.wait(lambda: not self._orphans(), "the leases of the dead did not move", _MOVED_SECONDS + 10)
        self.acted.append(f"moved after {time.monotonic() - killed:.1f} s")
        server.start()

    def _orphans(self) -> list[Any]:
        """Return the leases that nobody holds who lives."""
        return self.query("SELECT name FROM leases LEFT JOIN replicas r USING (holder) WHERE r.holder IS NULL")

    def terminate(self, server: Server) -> None:
        """SIGTERM, and a start."""
        assert server.terminate(30) == 0, server.log_tail()
        server.start()

    def roll(self, _: Server) -> None:
        """Restart one after the other, as soon as the one before is there."""
        for server in self.servers:
            self.terminate(server)
            self.wait(self.all_listen, "not as many replicas listen as there are streams")

    def freeze(self, server: Server, seconds: float = 30.0) -> None:
        """SIGSTOP for a while."""
        server.signal_all(signal.SIGSTOP)
        try:
            _pass(seconds)
        finally:
            server.signal_all(signal.SIGCONT)

    def take_database(self, _: Server, seconds: float = 0.0) -> None:
        """Let PostgreSQL crash, and come back after a while."""
        with self.database.outage():
            _pass(seconds)

    def terminate_backends(self, _: Server) -> None:
        """End every connection to the database, several times."""
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        for _blow in range(5):
            self.query(f"{others} AND pid <> pg_backend_pid()")
            time.sleep(0.2)

    def judge(self) -> None:
        """Stop all that sends, and raise AssertionError unless nothing is missing, nothing is twice, and no gap is."""
        self.upstream.pace(None)
        last, published = self.upstream.newest, self.publishing.stop()
        self.wait(lambda: self.newest("stream") == last, "not all of the stream is stored")
        report, ledger = self.load.stop()
        streamed, queued = Ledger(), Ledger()
        streamed.sent(0, last + 1)
        queued.sent(0, published)
        queued.answered(0, published, 204)  # each has to be there
        pulled = "SELECT count(*) FROM events WHERE source = 'queue'"
        self.wait(lambda: self.query(pulled)[0][0] >= published, "not all messages are stored")
        runs = {report.run: ledger, self.upstream.plan.run: streamed, f"{report.run}-queue": queued}
        contents = verify(self.store, runs)
        stored = {found for row in contents.rows if (found := number_of(row.data))}
        run = self.upstream.plan.run
        missing = [number for number in range(last + 1) if (run, number) not in stored]
        assert not missing, f"{len(missing)} events of the stream are missing: {missing[:5]}; {self.acted}"
        gaps = self.query("SELECT source, since, until, cause FROM gaps")
        assert gaps == [], f"{gaps}; {self.acted}\n{self.tails()}"
        self.wait(lambda: self.handed() >= {*range(1, contents.head + 1)}, "not each event reached the handler")

    def handed(self) -> set[int]:
        """Return the positions that the handler was given."""
        return {int(line.split()[1]) for line in self.notes.read_text().splitlines()}


ACTS: dict[str, Callable[[ReplicaScene, Server], None]] = {
    "kill": ReplicaScene.kill,
    "kill_briefly": ReplicaScene.kill_briefly,
    "terminate": ReplicaScene.terminate,
    "freeze": ReplicaScene.freeze,
    "roll": ReplicaScene.roll,
    "restart_database": ReplicaScene.take_database,
    "take_database_briefly": partial(ReplicaScene.take_database, seconds=4.0),  # a living process renews within 3 s
    "take_database": partial(ReplicaScene.take_database, seconds=60.0),
    "terminate_backends": ReplicaScene.terminate_backends,
}


def play(scene: ReplicaScene, acts: Sequence[str], seed: int) -> None:
    """Do one thing after the other, each to a server that the seed chooses, when all is well again."""
    chosen = random.Random(seed)
    for act in acts:
        scene.settle()
        server = chosen.choice(scene.servers)
        scene.acted.append(f"{act} {server.folder.name}")
        ACTS[act](scene, server)


@contextmanager
def replicas(
    folder: Path,
    count: int = 2,
    balancer: str | None = None,
    *,
    streams: int = 2,
    run: str = "run",
    pooler: bool = False,
) -> Iterator[ReplicaScene]:
    """Ready servers, at work. Without a balancer the oracle posts to the last server."""
    database, queue = own_server(), new_queue(session_emulator().host)
    url, notes = database.fresh_database(), folder / "notes"
    notes.touch()
    with ExitStack() as running:
        made = upstream_plan(f"{run}-stream", folder, pause_seconds=None, rules=Rules(keep_alive_seconds=0.5))
        upstream = running.enter_context(RunningUpstream(made))
        store = running.enter_context(pooled(database, url)) if pooler else url
        told = {"url": store, "secret": SECRET, "stream": upstream.url, "subscription": queue.subscription}
        config = _CONFIG.format(streams=streams, **told)
        proxy = running.enter_context(pubsub_proxy(queue.host))  # the emulator goes on with a dead process's stream
        environment = {"PUBSUB_EMULATOR_HOST": proxy.host}
        servers = [_server(folder / f"replica-{number}", config, environment, notes) for number in range(1, count + 1)]
        servers[0].migrate()
        for server in servers:
            running.push(server)
            server.launch()
        for server in servers:
            server.wait_ready()
        port = servers[-1].port
        if balancer is not None:
            port = running.enter_context(balancing(balancer, folder / balancer, [server.port for server in servers]))
        address, headers = f"http://127.0.0.1:{port}/ingest/fleet", {"X-Particle-Key": SECRET}
        posted = plan(address, run, folder, connections=4, rate=40.0, headers=headers)
        load = running.enter_context(Load(posted))
        publishing = running.enter_context(_publishing(queue, f"{run}-queue"))
        scene = ReplicaScene(servers, database, url, upstream, notes, load, publishing, streams)
        scene.wait(scene.all_listen, "not as many replicas listen as there are streams")
        upstream.pace(PAUSE_SECONDS)
        yield scene


def _server(folder: Path, config: str, environment: Mapping[str, str], notes: Path) -> Server:
    """Return a server whose handler writes to `notes`; not started yet."""
    folder.mkdir()
    (folder / "replica_notes.py").write_text(_HANDLER.format(path=str(notes)))
    # Replicas stop and freeze beside it: a gap that one of them takes back again is counted all the same.
    return Server(folder, config, environment=environment, losses=RESTARTED)


def _publishing(queue: Queue, run: str) -> Publishing:
    """Return what publishes the events of a run, steadily."""
    events = Numbered(run, datetime.now(UTC))
    messages = [events.message(number) for number in range(_MESSAGES)]
    return Publishing(queue, messages, _MESSAGES_A_SECOND, burst=1)


def _pass(seconds: float) -> None:
    """Return after a while."""
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until, seconds + 5, "time stands still")


async def _fetch(url: str, statement: str, *values: object) -> list[Any]:
    connection = await asyncpg.connect(url, timeout=5)
    try:
        return [tuple(row) for row in await connection.fetch(statement, *values, timeout=5)]
    finally:
        await connection.close()
