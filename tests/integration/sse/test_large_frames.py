"""A large frame is decoded beside the event loop."""

from __future__ import annotations

import threading

import pytest

from tests.support.large import LARGE, decoding_threads
from tests.support.sse_rig import SseRig
from tests.support.sse_upstream import SseUpstream


async def test_a_large_frame_holds_nobody_up(
    upstream: SseUpstream, rig: SseRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread than the loop's decodes it, and its neighbours are stored in their order."""
    threads = decoding_threads(monkeypatch, "decode_frames")
    channel = await upstream.channel()
    await channel.say(b"".join(b"event: %b\ndata: %b\n\n" % (name, LARGE) for name in (b"a", b"b", b"c")))
    await rig.until(lambda: rig.names == ["a", "b", "c"])
    assert threads
    assert threading.get_ident() not in threads
