"""Google's client with our eyes on it: what its threads tell, and in which order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.api_core.exceptions import Cancelled, ServiceUnavailable
from google.cloud.pubsub_v1 import SubscriberClient
from grpc import StatusCode

from ingest.sources.pubsub.client import WatchedClient
from tests.support.emulator import session_emulator
from tests.support.pubsub_proxy import PubsubProxy, pubsub_proxy


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


class LateCall:
    """A call of grpc's whose end is called back when the thread that reads it has seen it: as on a busy machine."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.code = call.code
        self.details = call.details

    def __next__(self) -> Any:
        return next(self._call)

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """See grpc.RpcContext."""
        timer = threading.Timer(0.01, callback)
        timer.daemon = True
        return bool(self._call.add_callback(timer.start))


@pytest.fixture
def proxy() -> Iterator[PubsubProxy]:
    """A server that clients find."""
    with pubsub_proxy(session_emulator().host) as proxy, proxy.as_emulator():
        yield proxy


async def a_client(heard: Heard, vain_calls: int = 10) -> WatchedClient:
    """A client of the proxy."""
    return await asyncio.to_thread(WatchedClient, heard, vain_calls, 0.5)


async def test_a_calls_end_is_told_before_the_next_call(proxy: PubsubProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an open stream would look closed; the thread that reads is often here before the one that calls back."""
    open_stream = SubscriberClient.streaming_pull
    monkeypatch.setattr(SubscriberClient, "streaming_pull", lambda client, said: LateCall(open_stream(client, said)))
    proxy.answers["StreamingPull"] = StatusCode.UNAVAILABLE, "busy"
    heard = Heard()
    client = await a_client(heard, vain_calls=1000)

    def open_again_and_again() -> None:
        for _ in range(50):
            call = client.streaming_pull(iter([]))
            with pytest.raises(ServiceUnavailable):
                next(call)

    await asyncio.to_thread(open_again_and_again)
    client.close()

    assert heard.told[:99] == [*["called", "UNAVAILABLE"] * 49, "called"]
    assert True in heard.connections


async def test_after_calls_in_vain_the_client_gives_up(proxy: PubsubProxy) -> None:
    """Left alone it would open stream after stream for ever: after so many it gets one that is over."""
    proxy.answers["StreamingPull"] = StatusCode.UNAVAILABLE, "busy"
    heard = Heard()
    client = await a_client(heard, vain_calls=3)
    for _ in range(3):
        with pytest.raises(ServiceUnavailable):
            await asyncio.to_thread(next, client.streaming_pull(iter([])))

    with pytest.raises(Cancelled):
        next(client.streaming_pull(iter([])))
    assert heard.told.count("called") == 3
    client.close()


async def test_a_client_that_is_to_open_no_more_opens_no_more(proxy: PubsubProxy) -> None:
    """A thread that is still about to open the stream again gets one that is over, and tells nobody."""
    heard = Heard()
    client = await a_client(heard)
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
