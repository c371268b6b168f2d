"""A thread of Google's client that dies of what the client did not foresee is noticed, and the client replaced."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from google.cloud.pubsub_v1.subscriber._protocol.dispatcher import Dispatcher
from google.cloud.pubsub_v1.subscriber._protocol.heartbeater import Heartbeater
from google.cloud.pubsub_v1.subscriber._protocol.streaming_pull_manager import StreamingPullManager
from grpc import StatusCode

from ingest.event import Cause
from tests.support.pubsub_rig import a_message, pubsub_rig

DEADLY = {
    "Thread-ConsumeBidirectionalStream": (StreamingPullManager, "_on_response"),
    "Thread-LeaseMaintainer": (StreamingPullManager, "_obtain_ack_deadline"),
    "Thread-Heartbeater": (StreamingPullManager, "heartbeat"),
    "Thread-CallbackRequestDispatcher": (Dispatcher, "dispatch_callback"),
}


class Unforeseen(BaseException):
    """Nothing that the client catches."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("name", DEADLY)
async def test_a_dead_thread_is_noticed_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Within seconds, with a cause; what had not been acknowledged comes again, what comes later is stored."""
    owner, method = DEADLY[name]
    works = getattr(owner, method)
    died = threading.Event()

    def once(itself: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.current_thread().name == name and armed.is_set() and not died.is_set():
            died.set()
            raise Unforeseen
        return works(itself, *args, **kwargs)

    armed = threading.Event()
    monkeypatch.setattr(owner, method, once)
    monkeypatch.setattr(Heartbeater.__init__, "__defaults__", (0.05,))
    async with pubsub_rig(tmp_path, look=0.1, drain_timeout=0.5, close=40.0) as rig:
        await rig.until_up()
        first = await rig.publish(a_message("first"))
        await rig.until_acknowledged(first)
        armed.set()
        await rig.publish(a_message("second"))
        await rig.until(died.is_set)
        await rig.until(lambda: rig.reconnects() == {"error": 1})
        await rig.until_up()
        assert rig.stream.lost is Cause.ERROR
        await rig.until(lambda: rig.proxy.open_streams == 1)
        await rig.until_flowing()
        assert rig.proxy.pulls == 2


async def test_an_ordinary_end_names_no_thread(tmp_path: Path) -> None:
    """The client's threads end with it: the reason is why it gave up."""
    async with pubsub_rig(tmp_path, look=0.005, drain_timeout=0.5) as rig:
        await rig.until_up()
        rig.database.close_gate()
        await rig.publish(a_message())
        await rig.until_received(1)
        rig.proxy.answers["StreamingPull"] = StatusCode.NOT_FOUND, "said so"
        rig.proxy.cut(StatusCode.NOT_FOUND)
        await rig.until(lambda: rig.stream.state == "refused")
        assert "does not exist" in (rig.source.condition().reason or "")
        assert "error" not in rig.reconnects()


async def test_trailers_that_name_many_messages_are_understood(tmp_path: Path) -> None:
    """After a standstill Google says of each message that its lease is over: more than a channel takes by itself."""
    refused: set[str] = set()

    def first(ack_ids: Sequence[str]) -> Mapping[str, str]:
        if refused:
            return {}
        refused.update(ack_ids)
        padding = {f"another-{number:0180}": "PERMANENT_FAILURE_INVALID_ACK_ID" for number in range(200)}
        return dict.fromkeys(ack_ids, "PERMANENT_FAILURE_INVALID_ACK_ID") | padding

    async with pubsub_rig(tmp_path) as rig:
        await rig.until_up()
        rig.proxy.exactly_once = True
        rig.proxy.refuse_lease = first
        await rig.publish(a_message("refused"))
        await rig.until(lambda: refused)
        messages = await rig.publish(a_message("taken"))
        await rig.until_acknowledged(messages)
        assert await rig.names() == ["taken"]
