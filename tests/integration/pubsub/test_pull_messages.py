"""Whatever a message holds, it becomes an event or a reject with its bytes, is acknowledged, and the next one comes."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from ingest.event import Origin
from ingest.formats.generic import Fields, GenericFormat
from ingest.formats.particle import ParticleFormat
from tests.support.emulator import Published
from tests.support.pubsub_rig import PUBLISHED, USUAL, PubsubRig, a_message, pubsub_rig
from tests.support.stored import rows

MEGABYTE = 1 << 20
ODD: dict[str, tuple[Published, str | None]] = {  # a message, and why it is rejected; None: it is stored
    "no data": (a_message(data=b""), None),
    "binary data": (a_message(data=bytes(range(256))), None),
    "a lone surrogate": (a_message(data=b'{"t":"\\ud800"}'), None),
    "JSON that is none": (a_message(data=b'{"t":'), None),
    "one hundred attributes": ((b"21.5", USUAL | {f"a{n:02}": "x" * 1024 for n in range(97)}), None),
    "no attributes": ((b"21.5", {}), "missing_name"),
    "no name": ((b"21.5", {"device_id": "dev1", "published_at": PUBLISHED}), "missing_name"),
    "an empty name": (a_message(""), "missing_name"),
    "a long name": (a_message("n" * 300), "bad_name"),
    "a control character in the name": (a_message("te\x00mp"), "bad_name"),
    "no device": ((b"21.5", {"event": "temp", "published_at": PUBLISHED}), None),
    "an empty device": (a_message(device_id=""), None),
    "a long device": (a_message(device_id="d" * 300), "bad_device"),
    "a control character in the device": (a_message(device_id="dev\n1"), "bad_device"),
    "a time that is none": (a_message(published_at="yesterday"), "bad_time"),
    "a time in words": (a_message(published_at="soon"), "bad_time"),
    "an impossible time": (a_message(published_at="2026-02-30T00:00:00Z"), "bad_time"),
    "an empty time": (a_message(published_at=""), None),
    "no time": ((b"21.5", {"event": "temp", "device_id": "dev1"}), None),
    "unusual attributes": ((b"21.5", USUAL | {"ü": "\x00\x7f", "e" * 256: "", "fw_version": "none"}), None),
}


@pytest.mark.parametrize("what", ODD)
async def test_an_odd_message_is_stored_or_rejected_and_never_stops_the_stream(rig: PubsubRig, what: str) -> None:
    """Its neighbours are stored, and all three are acknowledged; the reject has the message's bytes."""
    odd, reason = ODD[what]
    messages = await rig.publish(a_message("before"), odd, a_message("after"))
    await rig.until_acknowledged(messages)

    data = odd[0]
    names = await rig.names()
    assert {"before", "after"} <= set(names)
    assert len(names) == (3 if reason is None else 2)
    assert await rig.rejects() == ([] if reason is None else [(reason, data)])
    if reason is None:
        stored = await rows(rig.database, "SELECT data FROM events WHERE name NOT IN ('before', 'after')")
        assert [value and bytes(value) for (value,) in stored] == [data or None]
    assert rig.counts()["received"] == 3
    assert rig.proxy.pulls == 1


async def test_a_name_that_is_ignored_is_counted_and_acknowledged(rig: PubsubRig) -> None:
    """Names the configuration leaves out are not stored, and do not come again."""
    messages = await rig.publish(a_message("hook-sent/temp"))
    await rig.until_acknowledged(messages)

    assert await rig.names() == []
    assert rig.counts()["ignored"] == 1


async def test_the_largest_message_is_stored(rig: PubsubRig) -> None:
    """Google takes ten million bytes in a message."""
    data = b"x" * 9_900_000
    messages = await rig.publish(a_message(data=data))
    await rig.until_acknowledged(messages)

    ((stored,),) = await rows(rig.database, "SELECT data FROM events")
    assert bytes(stored) == data


async def test_a_message_that_the_inbox_can_never_hold_is_rejected_with_its_beginning(tmp_path: Path) -> None:
    """It is kept as far as that goes and acknowledged; smaller ones beside it are stored."""
    async with pubsub_rig(tmp_path, max_bytes=MEGABYTE) as rig:
        await rig.until_up()
        data = b"0123456789abcdef" * (2 * MEGABYTE // 16)
        messages = await rig.publish(a_message("before"), a_message("large", data), a_message("after"))
        await rig.until_acknowledged(messages)

        assert sorted(await rig.names()) == ["after", "before"]
        assert await rig.rejects() == [("too_large", data[: 64 * 1024])]
        assert rig.counts()["received"] == 3


async def test_an_inbox_that_holds_not_even_a_beginning_still_says_that_it_came(tmp_path: Path) -> None:
    """The reject is there without bytes; the message is acknowledged, and the stream goes on."""
    async with pubsub_rig(tmp_path, max_bytes=2000) as rig:
        await rig.until_up()
        messages = await rig.publish(a_message("large", b"x" * 5000), a_message("after"))
        await rig.until_acknowledged(messages)

        assert await rig.names() == ["after"]
        assert await rig.rejects() == [("too_large", b"")]


async def test_more_messages_than_the_inbox_holds_are_all_committed(tmp_path: Path) -> None:
    """What does not fit waits unacknowledged, and nothing comes twice."""
    async with pubsub_rig(tmp_path, max_events=30, max_bytes=100_000) as rig:
        await rig.until_up()
        messages = await rig.publish(*(a_message(f"t{number}", b"x" * 2000) for number in range(500)))
        await rig.until_acknowledged(messages)

        assert len(await rig.names()) == 500
        assert set(rig.proxy.delivered.values()) == {1}
        assert rig.counts()["stored"] == rig.counts()["received"] == 500


async def test_several_records_of_one_message_are_acknowledged_together(tmp_path: Path) -> None:
    """The generic format reads an array as many events, more of them than the inbox holds as one reject."""
    origin = Origin("tracker", "fleet", "pubsub")
    generic = GenericFormat(origin, (), Fields(data="/v"))
    async with pubsub_rig(tmp_path, max_events=50, format_=generic) as rig:
        await rig.until_up()
        element = b'{"name":"n%d","device":"d","time":"2026-07-28T16:53:05Z","v":1}'
        whole = b"[" + b",".join(element % number for number in range(40)) + b',{"device":"d"}]'
        large = b"[" + b",".join(element % number for number in range(2000)) + b"]"
        assert len(large) > 64 * 1024
        messages = await rig.publish((whole, {}), (large, {}), (b"[]", {"a": "b"}))
        await rig.until_acknowledged(messages)

        assert len(await rig.names()) == 40
        assert sorted(await rig.rejects()) == [("missing_name", b'{"device":"d"}'), ("too_large", large)]


async def test_messages_without_a_time_are_events_of_their_own(rig: PubsubRig) -> None:
    """Two readings of "21.5" are two, also where they came into the queue at the same instant."""
    untimed = (b"21.5", {"event": "temp", "device_id": "dev1"})
    messages = await rig.publish(untimed, untimed, untimed)
    await rig.until_acknowledged(messages)

    assert await rig.names() == ["temp"] * 3


async def test_a_message_without_a_time_that_comes_again_is_a_duplicate(rig: PubsubRig) -> None:
    """Its acknowledgement failed, so the queue sends it once more; its id is the same."""
    failed: list[str] = []

    def first(ack_ids: object) -> dict[str, str]:
        if failed:
            return {}
        failed.extend(ack_ids)  # type: ignore[arg-type]
        return dict.fromkeys(failed, "PERMANENT_FAILURE_INVALID_ACK_ID")

    rig.proxy.exactly_once = True
    rig.proxy.refuse = first
    messages = await rig.publish((b"21.5", {"event": "temp", "device_id": "dev1"}))
    await rig.until(lambda: rig.value("pubsub_ack_failures_total") == 1)
    await asyncio.to_thread(rig.proxy.give_back, failed)
    await rig.until_acknowledged(messages)

    assert rig.proxy.delivered[messages[0]] == 2
    assert await rig.names() == ["temp"]
    assert rig.value("events_duplicate_total", mode="pubsub", kind="redelivery") == 1


async def test_what_was_heard_last_is_known(rig: PubsubRig) -> None:
    """A source says when it last heard an event and a byte, and a metric says it too; never before it did."""
    assert rig.source.last_seen().byte_at is None
    assert rig.value("source_last_byte_timestamp_seconds", mode="pubsub") is None
    messages = await rig.publish(a_message())
    await rig.until_acknowledged(messages)

    seen = rig.source.last_seen()
    assert seen.byte_at is not None
    assert seen.event_at is not None
    assert rig.value("source_last_byte_timestamp_seconds", mode="pubsub") == seen.byte_at.timestamp()
    assert rig.stream.last_byte_at == seen.byte_at


async def test_streams_share_the_messages_of_a_subscription(tmp_path: Path) -> None:
    """Several streams are open at once, and each message comes by one of them."""
    async with pubsub_rig(tmp_path, streams=3) as rig:
        await rig.until(lambda: [s.state for s in rig.source.condition().streams] == ["listening"] * 3)
        messages = await rig.publish(*(a_message(f"t{number}") for number in range(300)))
        await rig.until_acknowledged(messages)

        assert rig.proxy.open_streams == 3
        assert rig.counts()["received"] == rig.counts()["stored"] == 300


async def test_a_message_that_we_stumble_over_ends_no_other_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is raised while a message is read is one stream's failed attempt; its message comes again."""
    stumbled = threading.Event()
    decode = ParticleFormat.decode_message

    def once(*args: Any) -> Any:
        if not stumbled.is_set():
            stumbled.set()
            raise ArithmeticError("no list of errors holds this one")
        return decode(*args)

    async with pubsub_rig(tmp_path, streams=2, drain_timeout=0.1) as rig:
        await rig.until(lambda: [state.state for state in rig.source.condition().streams] == ["listening"] * 2)
        monkeypatch.setattr(ParticleFormat, "decode_message", once)
        await rig.publish(a_message("odd"))
        await rig.until(lambda: rig.reconnects() == {"error": 1})
        lost = [state.lost for state in rig.source.condition().streams]
        assert sorted(map(str, lost)) == ["None", "error"]
        messages = await rig.publish(a_message("next"))
        await rig.until_acknowledged(messages)
