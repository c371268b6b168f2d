"""A stream that ends is opened again, one that is refused says why, and nothing is lost or doubled by either."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from ingest.event import Cause
from ingest.sources.pubsub.bridge import Bridge
from ingest.sources.pubsub.client import WatchedClient
from tests.support.emulator import make, session_emulator
from tests.support.pubsub_proxy import Answer, PubsubProxy
from tests.support.pubsub_rig import PubsubRig, a_message, pubsub_rig
from tests.support.server import free_port

LONG_ENOUGH = 0.5  # for a client that should not be made: one that should takes a fifth of a second
REFUSALS = {
    StatusCode.NOT_FOUND: "the subscription does not exist: said so",
    StatusCode.PERMISSION_DENIED: "no permission to consume the subscription (roles/pubsub.subscriber): said so",
    StatusCode.UNAUTHENTICATED: "the credentials are not accepted: said so",
    StatusCode.FAILED_PRECONDITION: "the subscription cannot be pulled: said so",
}
ENDS = {
    StatusCode.UNAVAILABLE: Cause.CLOSED,
    StatusCode.DEADLINE_EXCEEDED: Cause.CLOSED,  # the client's own, after half an hour
    StatusCode.OK: Cause.CLOSED,
    StatusCode.RESOURCE_EXHAUSTED: Cause.RATE_LIMITED,
    StatusCode.INTERNAL: Cause.ERROR,
    StatusCode.UNKNOWN: Cause.ERROR,
}


def answering(code: StatusCode) -> Answer:
    """How the proxy is to answer a call."""
    return code, "said so"


@pytest.mark.parametrize("code", REFUSALS, ids=lambda code: code.name)
async def test_a_refusal_shows_until_it_is_over(
    tmp_path: Path, code: StatusCode, capsys: pytest.CaptureFixture[str]
) -> None:
    """The source is never up meanwhile, says why, logs it once, and receives when it may, without a restart."""

    def refuse(proxy: PubsubProxy) -> None:
        proxy.answers["StreamingPull"] = answering(code)

    async with pubsub_rig(tmp_path, before=refuse, accepted=10.0) as rig:
        states: set[str] = set()

        def several_attempts() -> bool:
            states.add(rig.stream.state if rig.source.condition().streams else "connecting")
            return rig.reconnects().get("unauthorized", 0) >= 3

        await rig.until(several_attempts)
        await rig.until(lambda: rig.stream.state == "refused")
        condition = rig.source.condition()
        assert not condition.up
        assert condition.reason == REFUSALS[code]
        assert rig.stream.lost is Cause.UNAUTHORIZED
        assert states <= {"connecting", "refused"}
        assert capsys.readouterr().out.count("pull_refused") == 1

        rig.proxy.answers.clear()
        messages = await rig.publish(a_message())
        await rig.until_acknowledged(messages)
        assert rig.source.condition().up


async def test_a_subscription_that_is_made_later_is_found(tmp_path: Path) -> None:
    """The emulator itself says that there is none; once there is one, its messages come."""
    async with pubsub_rig(tmp_path, subscribed=False) as rig:
        await rig.until(lambda: rig.source.condition().streams and rig.stream.state == "refused")
        assert (rig.source.condition().reason or "").startswith("the subscription does not exist: ")
        await asyncio.to_thread(make, rig.queue)
        messages = await rig.publish(a_message())
        await rig.until_acknowledged(messages)


@pytest.mark.parametrize("code", ENDS, ids=lambda code: code.name)
async def test_a_stream_that_ends_is_opened_again(rig: PubsubRig, code: StatusCode) -> None:
    """What came before is stored, what comes after too; the end is counted once, by its cause."""
    before = await rig.publish(a_message("before"))
    await rig.until_acknowledged(before)
    rig.proxy.cut(code)
    await rig.until(lambda: rig.proxy.pulls == 2)
    await rig.until_flowing()
    await rig.until_up()

    assert rig.counts()["stored"] == len(await rig.names()) == rig.counts()["received"]
    assert rig.reconnects() == {ENDS[code].value: 1}
    assert rig.stream.lost is ENDS[code]


async def test_a_stream_that_is_cut_while_messages_are_held_loses_and_doubles_nothing(rig: PubsubRig) -> None:
    """The leases outlive the connection, and so do the acknowledgements."""
    rig.database.away = True
    messages = await rig.publish(*(a_message(f"t{number}") for number in range(50)))
    await rig.until_received(50)
    rig.proxy.cut()
    await rig.until(lambda: rig.proxy.pulls == 2)
    rig.database.away = False
    await rig.until_acknowledged(messages)

    assert len(await rig.names()) == 50
    assert not rig.proxy.given_back


async def test_with_the_store_away_no_next_client_fills_the_inboxs_line(tmp_path: Path) -> None:
    """What a client that gave up had taken is in the inbox before another one takes more, and none of it is lost."""
    async with pubsub_rig(tmp_path, max_events=10, drain_timeout=0.1) as rig:
        await rig.until_up()
        rig.database.away = True
        await rig.publish(*(a_message(f"t{number:02}") for number in range(30)))
        await rig.until(lambda: rig.counts()["in_flight"] > 10)
        rig.proxy.cut(StatusCode.NOT_FOUND)
        with pytest.raises(TimeoutError):
            await rig.until(lambda: rig.proxy.pulls > 1, LONG_ENOUGH)

        rig.database.away = False
        await rig.until(lambda: rig.proxy.pulls > 1)
        await rig.until(lambda: rig.counts()["stored"] == 30)
        assert sorted(await rig.names()) == [f"t{number:02}" for number in range(30)]


async def test_a_server_that_cannot_be_reached_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The source says so, is not up, and waits longer and longer; a stop meanwhile neither hangs nor makes a noise."""
    others = set(threading.enumerate())
    async with pubsub_rig(tmp_path, vain_calls=3) as rig:
        await rig.until_up()
        await rig.stop()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{free_port()}")
    again = rig.another_source()
    running = asyncio.create_task(again.run())
    await rig.until(lambda: again.condition().streams and again.condition().streams[0].state == "waiting")

    assert rig.reconnects().get("refused", 0) >= 2
    assert again.condition().streams[0].lost is Cause.REFUSED
    assert (again.condition().reason or "").startswith("the server cannot be reached: ")
    await rig.until(lambda: rig.reconnects().get("refused", 0) >= 6)
    assert not again.condition().up
    await again.pause()
    async with asyncio.timeout(10):
        await running
    await rig.until(lambda: not _threads_since(others))
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_server_that_ends_every_call_at_once_is_given_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The client alone would open stream after stream for ever, and nobody would hear of it."""

    def exhausted(proxy: PubsubProxy) -> None:
        proxy.answers["StreamingPull"] = answering(StatusCode.RESOURCE_EXHAUSTED)

    async with pubsub_rig(tmp_path, before=exhausted, vain_calls=4) as rig:
        await rig.until(lambda: rig.source.condition().streams and rig.stream.state == "waiting")
        assert rig.stream.lost is Cause.RATE_LIMITED
        assert rig.reconnects() == {"rate_limited": 3}
        assert "pull_lost" in capsys.readouterr().out

        rig.proxy.answers.clear()
        messages = await rig.publish(a_message())
        await rig.until_acknowledged(messages)


async def test_a_source_that_was_stopped_opens_no_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client alone would, as soon as it may: one that nobody reads, and that nobody ends."""
    awaited, come = threading.Event(), threading.Event()
    open_stream = WatchedClient.streaming_pull

    def throttled(client: WatchedClient, *args: Any, **kwargs: Any) -> Any:
        """Google's client waits up to ten seconds before it opens a lost stream again; here until the test says so."""
        if rig.proxy.pulls:
            awaited.set()
            come.wait(20)
        return open_stream(client, *args, **kwargs)

    monkeypatch.setattr(WatchedClient, "streaming_pull", throttled)
    async with pubsub_rig(tmp_path) as rig:
        await rig.until_up()
        rig.proxy.cut()
        await rig.until(awaited.is_set)
        others = set(threading.enumerate())
        await rig.source.pause()
        await rig.until(lambda: any("Shutdown" in thread.name for thread in _threads_since(others)))
        come.set()
        await rig.until(rig.running.done)

        assert rig.proxy.pulls == 1


async def test_without_credentials_the_source_is_refused_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing key file does not end the source."""
    async with pubsub_rig(tmp_path) as rig:
        await rig.until_up()
        await rig.stop()
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "no-such-key.json"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    source = rig.another_source()
    running = asyncio.create_task(source.run())
    await rig.until(lambda: source.condition().streams and source.condition().streams[0].state == "refused")

    reason = source.condition().reason or ""
    assert reason.startswith(
        "no credentials: set GOOGLE_APPLICATION_CREDENTIALS to a key file, or PUBSUB_EMULATOR_HOST"
    )
    assert "no-such-key.json" in reason
    await source.pause()
    await running


async def test_looking_for_credentials_does_not_hold_the_event_loop_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a key file cannot be read to its end, everything else goes on."""
    async with pubsub_rig(tmp_path) as rig:
        await rig.until_up()
        await rig.stop()
    key = tmp_path / "key.json"
    os.mkfifo(key)  # whoever opens it waits for us, on the other side
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    rescue = threading.Timer(10, key.write_text, [""])  # who holds the loop up fails, and does not hang
    rescue.daemon = True
    rescue.start()
    source = rig.another_source()
    running = asyncio.create_task(source.run())
    await rig.until(lambda: _is_being_read(key), 5)
    await rig.until(lambda: source.condition().streams and source.condition().streams[0].state == "refused")

    rescue.cancel()
    await source.pause()
    await running


def _is_being_read(fifo: Path) -> bool:
    """Return whether somebody waits for what is in it, who is told then that it is nothing."""
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


async def test_a_quiet_stream_is_opened_anew(tmp_path: Path) -> None:
    """Streams have fallen silent for ever; the next one receives, and it counts as idle, not as the server's doing."""
    async with pubsub_rig(tmp_path, quiet=0.3) as rig:
        await rig.until(lambda: rig.proxy.pulls >= 3)
        await rig.until_flowing()
        await rig.until_up()

        assert rig.reconnects().keys() == {"idle"}
        assert rig.stream.lost is Cause.IDLE
        assert rig.stream.reason == "no message for 0.3 s"


async def test_many_reopenings_leave_nothing_behind(tmp_path: Path) -> None:
    """Each client's threads, its channel and all that it held end with it."""
    session_emulator()
    others = set(threading.enumerate())
    async with pubsub_rig(tmp_path, quiet=0.02) as rig:
        await rig.until(lambda: rig.proxy.pulls >= 5)
        before = threading.active_count()
        await rig.until(lambda: rig.proxy.pulls >= 40, 40)
        assert threading.active_count() < before + 30
    await rig.until(lambda: not _threads_since(others), 20)
    gc.collect()
    held = [thing for thing in gc.get_objects() if isinstance(thing, WatchedClient | Bridge)]
    assert len(held) < 20


def _threads_since(before: set[threading.Thread]) -> set[threading.Thread]:
    """What was begun and has not ended; the event loop's own threads stay."""
    return {thread for thread in set(threading.enumerate()) - before if not thread.name.startswith("uvloop_")}


async def test_nothing_is_taken_by_a_client_that_is_made_while_the_source_pauses(tmp_path: Path) -> None:
    """Looking for credentials may take seconds; a pause in between is not overlooked."""
    async with pubsub_rig(tmp_path) as rig:
        await rig.until(lambda: rig.source.condition().streams)
        await rig.publish(a_message())
        await rig.stop()
        assert rig.counts()["received"] == len(await rig.names()) == len(rig.proxy.acknowledged)
