"""Google's client with our eyes on it: what its threads tell, and in which order."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.api_core import bidi
from google.api_core.exceptions import Cancelled
from google.api_core.grpc_helpers import _StreamingResponseIterator
from grpc import StatusCode

from ingest.pull import client as pull_client
from ingest.pull.bridge import Bridge
from ingest.pull.client import WatchedClient
from tests.support.emulator import new_queue, session_emulator
from tests.support.pubsub_proxy import PubsubProxy, pubsub_proxy
from tests.support.server import wait_until


class Heard:
    """client.Watcher that writes down what it is told, in whatever thread."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.connections: list[bool] = []

    def tell_called(self) -> None:
        """See Watcher."""
        self.told.append("called")

    def tell_call_ended(self, code: StatusCode | None, details: str | None) -> None:
        """See Watcher."""
        self.told.append("ended" if code is None else code.name)

    def tell_connected(self, connected: bool) -> None:
        """See Watcher."""
        self.connections.append(connected)


def late(call: _StreamingResponseIterator[Any], callback: Callable[[], None]) -> bool:
    """As a thread that has much to do calls back: after the one that reads has seen the end."""

    def tell() -> None:
        timer = threading.Timer(0.01, callback)
        timer.daemon = True
        timer.start()

    return bool(call._wrapped.add_callback(tell))


@pytest.fixture
def proxy() -> Iterator[PubsubProxy]:
    """A server that clients find."""
    with pubsub_proxy(session_emulator().host) as proxy, proxy.as_emulator():
        yield proxy


async def test_a_calls_end_is_told_before_the_next_call(proxy: PubsubProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an open stream would look closed; the thread that reads is often here before the one that calls back."""
    monkeypatch.setattr(bidi, "_Throttle", lambda access_limit, time_window: None)
    monkeypatch.setattr(_StreamingResponseIterator, "add_callback", late)
    monkeypatch.setattr(pull_client, "_VAIN_CALLS", 1000)
    proxy.answers["StreamingPull"] = StatusCode.UNAVAILABLE, "busy"
    heard = Heard()
    client = await asyncio.to_thread(WatchedClient, heard)
    bridge = Bridge(asyncio.get_running_loop(), 1.0, time.monotonic)
    pulling = client.pull_into(
        bridge, new_queue(session_emulator().host).subscription, max_messages=10, max_bytes=1000, lease=10
    )
    await asyncio.to_thread(wait_until, lambda: len(heard.told) > 200, 20, "it was not called again")
    client.open_no_more()
    pulling.cancel()
    await asyncio.to_thread(pulling.exception)
    client.close()

    told = heard.told[: len(heard.told) // 2 * 2]
    assert told[0::2] == ["called"] * (len(told) // 2)
    assert set(told[1::2]) <= {"UNAVAILABLE", "CANCELLED"}
    assert True in heard.connections


async def test_a_client_that_is_to_open_no_more_opens_no_more(proxy: PubsubProxy) -> None:
    """A thread that is still about to open the stream again gets one that is over, and tells nobody."""
    heard = Heard()
    client = await asyncio.to_thread(WatchedClient, heard)
    client.open_no_more()
    call = client.streaming_pull(iter([]))
    ends: list[BaseException] = []
    call.add_done_callback(ends.append)

    assert not call.is_active()
    with pytest.raises(Cancelled):
        next(call)
    assert [type(end) for end in ends] == [Cancelled]
    assert heard.told == []
    assert proxy.pulls == 0
    client.close()
