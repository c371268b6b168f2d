"""A large message is decoded beside the event loop."""

from __future__ import annotations

import threading

import pytest

from tests.support.large import LARGE, decoding_threads
from tests.support.pubsub_rig import PubsubRig, a_message


async def test_a_large_message_holds_nobody_up(rig: PubsubRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread than the loop's decodes it, and it is stored and acknowledged."""
    threads = decoding_threads(monkeypatch, "decode_message")
    messages = await rig.publish(a_message("large", data=LARGE))
    await rig.until_acknowledged(messages)
    assert await rig.names() == ["large"]
    assert threads
    assert threading.get_ident() not in threads
