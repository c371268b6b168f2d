"""A subscription that is pulled while what it depends on is away, and while its messages are unruly."""

from __future__ import annotations

import base64
import math
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.pubsub_scene import LEASE_SECONDS, Publishing, Scene, number_in, pulling
from tests.chaos.scene import POSTGRES, SQLITE
from tests.chaos.stream_scene import pause
from tests.support.emulator import Emulator, Published, make, new_queue, session_emulator
from tests.support.observed import pages
from tests.support.oracle import get_json
from tests.support.postgres import own_server
from tests.support.pubsub_proxy import pubsub_proxy
from tests.support.server import PATIENCE_SECONDS, wait_until

MAX_MESSAGES = 1000  # unacknowledged at most: our default
RESTART_SECONDS = 10.0  # in which PostgreSQL is back, and all that came meanwhile is committed
ATTEMPTS = 5  # the fewest that Pub/Sub's dead lettering knows
RECOVERY_SECONDS = 90.0  # the longest wait between two attempts is a minute
POISON_SHARE, TWICE_SHARE = 0.01, 0.05


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """One that may be stopped."""
    emulator = Emulator()
    emulator.start()
    yield emulator
    emulator.stop()


@pytest.mark.parametrize(
    ("seed", "away"), [(1, [0.0]), pytest.param(101, [0.0, 5.0, 20.0, 60.0], marks=pytest.mark.chaos)]
)
def test_a_queue_that_stops_and_forgets_everything(
    seed: int, away: list[float], emulator: Emulator, tmp_path: Path
) -> None:
    """The same process goes on as soon as there is a subscription again; what is published anew is a duplicate."""
    chance = random.Random(seed)
    part, count = 1000, 1000 * (len(away) + 1)
    with pulling(SQLITE, tmp_path, emulator.host) as scene:
        pid = scene.server.pid
        for turn, seconds in enumerate(away):
            scene.publish(range(turn * part, (turn + 1) * part))
            scene.wait_stored(turn * part + chance.randrange(1, part), every=0.005)
            emulator.stop()
            pause(seconds)
            scene.wait_settled()
            emulator.start()
            # Acknowledgements that could not be sent are tried again, and its ids begin anew: first let them fail.
            wait_until(lambda: "does not exist" in reason(scene), RECOVERY_SECONDS, lambda: reason(scene), every=0.1)
            make(scene.queue)
            scene.publish(range((turn + 1) * part))
            scene.wait_stored((turn + 1) * part, RECOVERY_SECONDS)
        scene.publish(range(count - part, count))
        scene.wait_stored(count)
        counts = scene.wait_settled()
        assert counts["redelivery"] > 0, "nothing was published anew: the run proves nothing"
        assert counts["deferred"] == counts["rejected"] == 0
        scene.verify(count)
        assert scene.server.pid == pid
        assert scene.queue.left(1.0) == 0


@pytest.mark.parametrize("seconds", [4.0, pytest.param(30.0, marks=pytest.mark.chaos)])
def test_messages_are_held_while_the_store_is_away(seconds: float, tmp_path: Path) -> None:
    """More comes than may be unacknowledged: what was taken is delivered once, and nothing becomes a dead letter.

    The emulator sends more than it is asked for: what lies unread in the connection comes again after each lease.
    """
    emulator = session_emulator().host
    rate, burst = 500.0, 50
    count = int(rate * (seconds + 3))
    dead = new_queue(emulator)
    policy = {"dead_letter_topic": dead.topic, "max_delivery_attempts": ATTEMPTS}
    with (
        pubsub_proxy(emulator) as proxy,
        pulling(POSTGRES, tmp_path, emulator, through=proxy.host, dead_letter_policy=policy) as scene,
    ):
        pid = scene.server.pid
        with Publishing(scene.queue, scene.messages(range(count)), rate, burst) as publishing:
            scene.wait_stored(200)
            with own_server().outage():
                pause(seconds)
                counts = scene.counts()
            publishing.wait_done()
        assert counts["in_flight"] >= MAX_MESSAGES, "there was room for more: the run proves nothing"
        scene.wait_stored(count)
        wait_until(lambda: proxy.owed == 0, PATIENCE_SECONDS, lambda: f"{proxy.owed} not acknowledged", every=0.1)
        deliveries = {number_in(proxy.data[id_]): times for id_, times in proxy.delivered.items()}
        taken = range(int(counts["received"]))
        assert max(deliveries[number] for number in taken) == 1, "messages came again"
        assert max(proxy.delivered.values()) <= 1 + math.ceil((seconds + RESTART_SECONDS) / LEASE_SECONDS)
        assert scene.wait_settled()["deferred"] == 0
        scene.verify(count)
        assert scene.server.pid == pid
        assert dead.left(1.0) == 0


@pytest.mark.parametrize(("count", "freezes"), [(2_000, 1), pytest.param(20_000, 4, marks=pytest.mark.chaos)])
def test_poison_duplicates_and_expired_leases(count: int, freezes: int, tmp_path: Path) -> None:
    """1 % of the messages cannot be read, 5 % are published twice, and leases expire while the process is frozen."""
    chance = random.Random(count)
    emulator = session_emulator().host
    with pubsub_proxy(emulator) as proxy, pulling(SQLITE, tmp_path, emulator, through=proxy.host) as scene:
        poison = [poisoned(number, scene.events.message(number)) for number in range(int(count * POISON_SHARE))]
        messages = scene.messages(range(count)) + scene.messages(chance.sample(range(count), int(count * TWICE_SHARE)))
        messages += poison
        chance.shuffle(messages)
        with Publishing(scene.queue, messages, len(messages) / 2 / freezes, 100) as publishing:
            for turn in range(freezes):
                scene.wait_stored(int(count * (turn + 0.3) / freezes), every=0.005)
                freeze(scene, LEASE_SECONDS + 1.5)
            publishing.wait_done()
        scene.wait_stored(count)
        wait_until(
            lambda: {body for body, _ in poison} <= rejects(scene), PATIENCE_SECONDS, "poison is not kept", every=0.1
        )
        wait_until(lambda: proxy.owed == 0, PATIENCE_SECONDS, lambda: f"{proxy.owed} not acknowledged", every=0.1)
        counts = scene.wait_settled()
        assert counts["received"] > len(messages), "no lease expired: the run proves nothing"
        assert counts["redelivery"] >= count * TWICE_SHARE
        assert counts["received"] == counts["stored"] + counts["redelivery"] + counts["rejected"]
        assert counts["stored"] == count
        assert rejects(scene) == {body for body, _ in poison}
        scene.verify(count)


def poisoned(number: int, message: Published) -> Published:
    """A message that says no event, or no time that is one; the bytes are its own."""
    _, about = message
    body = b"poison %d \x00\xff" % number
    if number % 2:
        return body, {key: value for key, value in about.items() if key != "event"}
    return body, {**about, "published_at": "yesterday"}


def rejects(scene: Scene) -> set[bytes]:
    """The bytes of what could not be read."""
    return {base64.b64decode(row["body_base64"]) for row in pages(scene.server.url, "rejects")}


def freeze(scene: Scene, seconds: float) -> None:
    """Stop the process as a stalled machine does, and let it go on."""
    scene.server.signal(signal.SIGSTOP)
    pause(seconds)
    scene.server.signal(signal.SIGCONT)


def reason(scene: Scene) -> str:
    """Why the subscription is not pulled."""
    return str(get_json(f"{scene.server.url}/api/v1/sources")["sources"][0]["reason"])
