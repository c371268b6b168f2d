"""One run of deliveries to a receiver that fails in every way we know, with a server that is killed meanwhile."""

from __future__ import annotations

import itertools
import random
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.scene import PATH, full_speed, server_on, store_of
from tests.support.deliveries.account import Account, ask, read_account
from tests.support.deliveries.answers import weather
from tests.support.deliveries.journal import Connected, Delivered, Refused, kinds
from tests.support.deliveries.judge import Rules, faults
from tests.support.deliveries.receiver import SECRET
from tests.support.deliveries.running import RunningReceiver
from tests.support.numbered import Numbered
from tests.support.oracle import Load, verify_balance
from tests.support.server import Server, wait_until

HANDLER = "sink"
ATTEMPTS = 8
TIMEOUT_SECONDS = 3.0
PROBE_SECONDS = 0.2
PATIENCE_SECONDS = 300.0
_CIRCUIT = f'circuit = {{ failures = 10, probe = "{PROBE_SECONDS * 1000:.0f}ms" }}'
_UNSAVED_SECONDS = 10.0  # a save waits for the disk, which four runs at once share
_FRESH_EVENTS = 20
_FRESH_EVERY_SECONDS = 5.0
_CONFIG = """
[handlers.{name}]
type = "http"
url = "{url}"
tls = {{ ca = "{certificate}" }}
secrets = ["{secret}"]
devices = {devices}
from = "beginning"
concurrency = 64
timeout = "{timeout:.0f}s"
retry = {{ base = "10ms", cap = "500ms", attempts = {attempts} }}
{circuit}
"""
_STARTED = datetime(2026, 11, 1, tzinfo=UTC)  # the ids of the events, and with them the faults, are of this time
_LOOK = f"SELECT paused_at, circuit, circuit_since FROM cursors WHERE handler = '{HANDLER}'"  # noqa: S608 - our name
_RESUME = f"UPDATE cursors SET paused_at = NULL, paused_because = NULL WHERE handler = '{HANDLER}'"  # noqa: S608
_LEFT = (
    f"SELECT (SELECT position FROM head) - position FROM cursors WHERE handler = '{HANDLER}'",  # noqa: S608
    f"SELECT count(due_at) FROM deliveries WHERE handler = '{HANDLER}'",  # noqa: S608
)


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is: `events` at a `rate`, of `devices`, a tenth of which the handler does not want."""

    events: int
    devices: int
    rate: float
    kills: int
    storms: int

    @property
    def wanted(self) -> Sequence[str]:
        """Return the devices that the handler wants."""
        numbered = Numbered("", datetime.now(UTC), self.devices)
        return [numbered.device(number) for number in range(self.devices * 9 // 10)]


@dataclass
class Watch:
    """Looks at the handler's row all the time: resumes it where it is paused, notes when its circuit was open."""

    url: str
    pauses: int = 0
    open: list[tuple[float, float]] = field(default_factory=list)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look as long as the block lasts."""
        ended = threading.Event()
        thread = threading.Thread(target=self._look, args=(ended,))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _look(self, ended: threading.Event) -> None:
        last = None  # since when it is open, as the row has it
        while not ended.wait(0.1):
            at = time.time()
            for paused_at, circuit, since in ask(self.url, _LOOK)[0]:
                if paused_at is not None:
                    self.pauses += 1
                    ask(self.url, _RESUME)
                if circuit == "open" and since == last:
                    self.open[-1] = (self.open[-1][0], at)
                elif circuit == "open":
                    self.open.append((at, at))
                last = since if circuit == "open" else None


def run(store: str, seed: int, size: Size, folder: Path) -> None:
    """Raise AssertionError with all that is wrong."""
    forecast = weather(seed, size.events, size.storms)
    kills = sorted(random.Random(seed).sample(range(size.events // 20, size.events * 9 // 10), size.kills))
    with (
        store_of(store, folder) as url,
        RunningReceiver(folder / "receiver", forecast, tls=True) as receiver,
        server_on(url, folder, config(receiver, size)) as server,
    ):
        watch = Watch(url)
        with watch.looking(), _load(server, size, folder) as load:
            deaths = list(_kill(kills, receiver, server))
            load.finish(PATIENCE_SECONDS)
            _settle(url, receiver, server, size)
        account = read_account(url, HANDLER)
        print(f"\n{store}, seed {seed}: {_tell(receiver, account, watch)}")
        rules = Rules(
            devices=frozenset(size.wanted),
            attempts=ATTEMPTS,
            timeout=TIMEOUT_SECONDS,
            probe=PROBE_SECONDS,
            deaths=deaths,
            unsaved=_UNSAVED_SECONDS,
            open=watch.open,
        )
        found = faults(receiver.journal.read(), account, rules)
        assert not found, "\n".join(found)
        verify_balance(url)


def config(receiver: RunningReceiver, size: Size) -> str:
    """Return what configures the handler."""
    return _CONFIG.format(
        name=HANDLER,
        url=receiver.url,
        certificate=receiver.certificate,
        secret=SECRET,
        devices=list(size.wanted),
        timeout=TIMEOUT_SECONDS,
        attempts=ATTEMPTS,
        circuit=_CIRCUIT,
    )


def _load(server: Server, size: Size, folder: Path) -> Load:
    return full_speed(server, folder, count=size.events, devices=size.devices, rate=size.rate, started=_STARTED)


def _kill(kills: Sequence[int], receiver: RunningReceiver, server: Server) -> Iterator[float]:
    """Kill the server after so many deliveries each, and start it again; yield when."""
    for after in kills:
        _wait(lambda: len(receiver.journal.deliveries()) >= after, receiver, server)  # noqa: B023 - it is called here
        server.kill()
        yield time.time()
        server.start()


def _wait(condition: Callable[[], bool], receiver: RunningReceiver, server: Server) -> None:
    def failure() -> str:
        return f"it does not go on after {len(receiver.journal.deliveries())} deliveries\n{server.log_tail()}"

    wait_until(condition, PATIENCE_SECONDS, failure, every=0.05)


def _settle(url: str, receiver: RunningReceiver, server: Server, size: Size) -> None:
    """Wait until nothing is left, while devices go on to publish now and then.

    Where all that is left fails, the circuit stays open until something else is delivered.
    """
    fresh = Numbered("fresh", _STARTED, size.devices)
    numbers = itertools.count(step=_FRESH_EVENTS)
    published_at = 0.0

    def is_settled() -> bool:
        nonlocal published_at
        if _is_settled(url):
            return True
        if time.monotonic() > published_at + _FRESH_EVERY_SECONDS:
            published_at = time.monotonic()
            _post(server, fresh.batch(next(numbers), _FRESH_EVENTS))
        return False

    _wait(is_settled, receiver, server)


def _post(server: Server, body: bytes) -> None:
    with urllib.request.urlopen(urllib.request.Request(server.url + PATH, body), timeout=20) as answer:
        assert answer.status == 204


def _is_settled(url: str) -> bool:
    """Return whether the handler has passed everything, and nothing waits."""
    return [rows[0][0] for rows in ask(url, *_LEFT)] == [0, 0]


def _tell(receiver: RunningReceiver, account: Account, watch: Watch) -> str:
    entries = receiver.journal.read()
    answers = Counter(each.answer.value for each in kinds(entries, Delivered))
    answers += Counter(each.answer.value for each in kinds(entries, Refused))
    dead = Counter(row.cause for row in account.rows)
    return (
        f"{len(account.events)} events, {len(kinds(entries, Connected))} connections, {watch.pauses} pauses, "
        f"{len(watch.open)} times open, dead {dict(dead)}, answers {dict(answers.most_common())}"
    )
