"""The proxy itself: a run through it is only as good as what it writes down."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from google.cloud.pubsub_v1.subscriber.message import Message

from tests.support.emulator import Queue, new_queue, session_emulator, subscriber
from tests.support.numbered import Numbered
from tests.support.pubsub_proxy import PubsubProxy, pubsub_proxy
from tests.support.server import PATIENCE_SECONDS, wait_until

SECONDS = 8.0  # less than a lease
EVENTS = Numbered("proxy", datetime(2026, 7, 28, tzinfo=UTC))


@pytest.fixture
def queue() -> Queue:
    """A subscription of the session's emulator."""
    return new_queue(session_emulator().host)


@pytest.fixture
def proxy(queue: Queue) -> Iterator[PubsubProxy]:
    """A proxy of the session's emulator."""
    with pubsub_proxy(queue.host) as proxy:
        yield proxy


def pull_for_ever(host: str, subscription: str) -> None:
    """Acknowledge whatever comes, until killed."""
    subscriber(host).subscribe(subscription, lambda message: message.ack()).result()


def killed_after_pulling(proxy: PubsubProxy, queue: Queue) -> None:
    """Let a process pull one message, and kill it."""
    queue.publish([EVENTS.message(0)])
    puller = multiprocessing.get_context("spawn").Process(target=pull_for_ever, args=(proxy.host, queue.subscription))
    puller.start()
    wait_until(lambda: len(proxy.acknowledged) == 1, PATIENCE_SECONDS, "nothing was acknowledged")
    puller.kill()
    puller.join()
    puller.close()


def test_what_is_delivered_and_acknowledged_is_known(proxy: PubsubProxy, queue: Queue) -> None:
    """Each message is owed from its delivery until it is acknowledged."""
    queue.publish([EVENTS.message(number) for number in range(20)])
    came: list[Message] = []
    pulling = subscriber(proxy.host).subscribe(queue.subscription, came.append)
    wait_until(lambda: len(came) == 20, SECONDS, "not all came")
    assert sorted(proxy.delivered.values()) == [1] * 20
    assert sorted(proxy.data.values()) == [EVENTS.message(number)[0] for number in range(20)]
    assert (proxy.owed, len(proxy.acknowledged)) == (20, 0)
    for message in came[:5]:
        message.ack()
    wait_until(lambda: proxy.owed == 15, SECONDS, "acknowledgements are not noted")
    assert len(proxy.acknowledged) == 5
    pulling.cancel()
    pulling.result()


def test_a_puller_that_was_killed_gets_nothing_more(proxy: PubsubProxy, queue: Queue) -> None:
    """Behind the proxy all goes to who is still there, at once; and the proxy knows when the dead one's calls ended."""
    killed_after_pulling(proxy, queue)
    wait_until(lambda: proxy.quiet, SECONDS, "the dead one still calls")
    pulling = subscriber(proxy.host).subscribe(queue.subscription, lambda message: message.ack())
    for first in range(0, 500, 20):
        queue.publish([EVENTS.message(number) for number in range(first, first + 20)])
        time.sleep(0.06)  # longer than the emulator's turn: a dead stream would have some of these
    wait_until(lambda: len(proxy.acknowledged) == 501, SECONDS, lambda: f"only {len(proxy.acknowledged)} came")
    pulling.cancel()
    pulling.result()
