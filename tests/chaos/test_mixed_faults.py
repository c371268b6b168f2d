"""The store and the handler fail in every way we know, in an order that a seed gives: nothing acknowledged is missing,
and the handler skips nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.chaos.scene import POSTGRES, SQLITE, full_speed, only, server_on, store_of
from tests.support import database
from tests.support.ledger import Fate, Ledger
from tests.support.losses import GAPS
from tests.support.numbered import number_of
from tests.support.oracle import Load, faults, get_json, verify_balance, verify_flow
from tests.support.postgres import database_name, own_server
from tests.support.server import PATIENCE_SECONDS, Server, wait_until

HANDLER = """
[handlers.rules]
type = "python"
call = "rules:on_event"
retry = { attempts = 2, base = "10ms", cap = "100ms" }
timeout = "200ms"
"""
# Of a thousand events a few make it raise, hang, block, or end its loop, however often they come.
RULES = """
import asyncio, json, os, sys, time
from pathlib import Path

async def on_event(event):
    number = int(json.loads(event.data)["n"])
    match number % 1000:
        case 100: raise ValueError("no")
        case 200: sys.exit(3)
        case 300: raise KeyboardInterrupt
        case 400: raise BaseExceptionGroup("both", [GeneratorExit(), SystemExit()])
        case 500: await asyncio.Event().wait()
        case 600: asyncio.create_task(ends()); raise ValueError("and the loop")
        case 700: time.sleep(0.02)
    os.write(DELIVERED, b"%d %b\\n" % (event.position, event.data))

async def ends():
    sys.exit(4)

DELIVERED = os.open("delivered", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
"""
DYING = {100, 200, 300, 400, 500, 600}
MORE = 300  # acknowledged between two faults
QUICK = [(SQLITE, 1), (POSTGRES, 1)]
LONG = [*((SQLITE, seed) for seed in range(101, 111)), *((POSTGRES, seed) for seed in range(101, 111))]


@dataclass
class Scene:
    """A server under load, and what may be done to it."""

    server: Server
    url: str
    load: Load
    chance: random.Random

    def writer_stopped(self, *, longest: float = 1.0) -> None:
        """The process that writes is suspended."""
        (writer,) = psutil.Process(self.server.pid).children()
        writer.suspend()
        since = time.monotonic()
        wait_until(lambda: not writer.is_running() or time.monotonic() > since + longest, 60, "time stands still")
        if writer.is_running():
            writer.resume()

    def writer_silent(self) -> None:
        """It stays so until it is replaced."""
        (writer,) = psutil.Process(self.server.pid).children()
        writer.suspend()
        wait_until(lambda: not psutil.pid_exists(writer.pid), 60, "a process that answers nothing is kept")

    def writer_killed(self) -> None:
        """The process that writes dies."""
        (writer,) = psutil.Process(self.server.pid).children()
        writer.kill()

    def server_killed(self) -> None:
        """The whole server dies and is started again."""
        self.server.kill()
        self.server.start()

    def read_only(self) -> None:
        """Every connection ends, and new ones cannot write for a while, as after a failover; then they could."""
        name = database_name(self.url)
        own_server().execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        self._end_connections(name)
        some = self.load.progress.deferred + 100  # more than are under way: also by the connections made now
        self.load.wait_for(lambda progress: progress.deferred > some, PATIENCE_SECONDS, "it writes all the same")
        own_server().execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')

    def connections_ended(self) -> None:
        """The database ends every connection."""
        self._end_connections(database_name(self.url))

    def away(self) -> None:
        """The database crashes and starts again."""
        with own_server().outage():
            pass

    def asleep(self) -> None:
        """No process of the database runs for a moment."""
        with own_server().frozen():
            time.sleep(0.3)

    def _end_connections(self, name: str) -> None:
        own_server().execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"  # noqa: S608 - our name
        )


Fault = Callable[[Scene], None]
FAULTS: Mapping[str, list[Fault]] = {
    SQLITE: [Scene.writer_stopped, Scene.writer_killed, Scene.server_killed],
    POSTGRES: [
        *(Scene.read_only, Scene.connections_ended, Scene.away, Scene.asleep),
        *(Scene.writer_stopped, Scene.writer_killed, Scene.server_killed),
    ],
}


@contextmanager
def scene(store: str, seed: int, folder: Path, losses: Sequence[str] = ()) -> Iterator[Scene]:
    """A server with a handler, under load."""
    (folder / "rules.py").write_text(RULES)
    with (
        store_of(store, folder) as url,
        server_on(url, folder, HANDLER, losses) as server,
        full_speed(server, folder, connections=8) as load,
    ):
        yield Scene(server, url, load, random.Random(seed))


@pytest.mark.parametrize(("store", "seed"), [*QUICK, *(pytest.param(*run, marks=pytest.mark.chaos) for run in LONG)])
def test_whatever_fails_nothing_is_missing_or_skipped(store: str, seed: int, tmp_path: Path) -> None:
    """Every fault, in an order of its own, while events come; then all is stored once and delivered, or is dead."""
    with scene(store, seed, tmp_path) as it:
        schedule = list(FAULTS[store]) if (store, seed) in QUICK else [*FAULTS[store] * 2, Scene.writer_silent]
        it.chance.shuffle(schedule)
        for fault in schedule:
            _goes_on(it)
            fault(it)
        _goes_on(it)
        report, ledger = it.load.stop()
        only(report, "204", "503")
        contents = database.read(it.url)
        assert faults(contents, {"load": ledger}) == []
        verify_balance(it.url)
        _nothing_is_skipped(it, tmp_path, since=1)
        verify_flow(it.server.url, "/ingest/fleet")


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.chaos) for seed in range(101, 111))])
def test_a_database_that_is_put_back(seed: int, tmp_path: Path) -> None:
    """An older copy takes the place of the database under a living server: what is stored from then on is delivered."""
    copy = tmp_path / "copy"
    with scene(POSTGRES, seed, tmp_path, losses=[*GAPS, "headrace_store_rewinds"]) as it:
        _goes_on(it, it.chance.randrange(1, 2000))
        with own_server().outage():
            own_server().copy_to(copy)
        _goes_on(it, it.chance.randrange(1, 4000))
        _, before = it.load.stop()  # what is lost by putting it back, nobody can know
        with own_server().outage():
            own_server().put_back(copy)
        at = database.read(it.url).head
        with full_speed(it.server, tmp_path, "after", connections=8) as it.load:
            _goes_on(it, it.chance.randrange(1000, 6000))
            _, after = it.load.stop()
        contents = database.read(it.url)
        acknowledged = {"load": _never_acknowledged(before), "after": after}
        assert faults(contents, acknowledged) == []
        verify_balance(it.url)
        _nothing_is_skipped(it, tmp_path, since=at + 1)
        assert get_json(f"{it.server.url}/readyz")["ready"]


def _goes_on(it: Scene, more: int = MORE) -> None:
    """Return when more was acknowledged."""
    wanted = it.load.progress.acknowledged + more
    it.load.wait_for(lambda progress: progress.acknowledged >= wanted, PATIENCE_SECONDS, "it does not go on")


def _never_acknowledged(ledger: Ledger) -> Ledger:
    """The same numbers, of which none has to be there."""
    last = max(ledger.numbers(*Fate))
    unknown = Ledger()
    unknown.sent(0, last + 1)
    return unknown


def _nothing_is_skipped(it: Scene, folder: Path, since: int) -> None:
    """Raise AssertionError unless each event from a position on was delivered where it stands, or is a dead letter."""

    def is_done() -> bool:
        (handler,) = get_json(f"{it.server.url}/api/v1/handlers")["handlers"]
        return bool(handler["lag_events"] == 0 and handler["retries"] == 0)

    wait_until(is_done, PATIENCE_SECONDS, lambda: f"the handler does not catch up\n{it.server.log_tail()}", every=0.2)
    delivered = set()
    for line in (folder / "delivered").read_bytes().splitlines():
        position, _, data = line.partition(b" ")
        delivered.add((int(position), number_of(data)))
    owed = {(row.position, number_of(row.data)) for row in database.read(it.url).rows if row.position >= since}
    dead = {(position, number) for position, number in owed if number is not None and number[1] % 1000 in DYING}
    assert owed - dead <= delivered
    assert not dead & delivered
